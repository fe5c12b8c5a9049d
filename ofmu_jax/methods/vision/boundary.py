"""Boundary unlearning (Chen et al., CVPR 2023): expanding and shrinking.

Both move forget images across a decision boundary. Expanding gives them to a new
class of their own; shrinking to the class that a small adversarial step leads to.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ofmu_jax.bounds import NotNegative, Positive
from ofmu_jax.losses import vision
from ofmu_jax.methods.base import Method, Spec
from ofmu_jax.methods.rules.frozen import FORWARD_COST, copy_params
from ofmu_jax.methods.rules.weighted import descend
from ofmu_jax.methods.traced import with_numbers
from ofmu_jax.methods.vision.classifier import Context, logits_fn, vision_method
from ofmu_jax.methods.vision.descent import SMALL_RATE, Descent, descent
from ofmu_jax.methods.vision.setting import Compiled, Plan, Setting
from ofmu_jax.models.resnet import Variables, predict


@dataclasses.dataclass(frozen=True)
class BoundaryExpand(Descent):
    """BE: forget images become a class of their own, which stays in the head."""

    learning_rate: Positive = 1e-4


@dataclasses.dataclass(frozen=True)
class BoundaryShrink(Descent):
    """BS: forget images get the label beyond their nearest boundary."""

    learning_rate: Positive = 1e-4
    epsilon: NotNegative = 0.1
    """Size of the adversarial step, as a share of the pixel range."""


def with_one_more_class(variables: Variables, key: jax.Array) -> Variables:
    """The network with one more, random row in its head (uniform ± 1/√fan_in)."""
    head = variables.params["head"]
    fan_in = head["kernel"].shape[0]
    limit = fan_in**-0.5
    kernel_key, bias_key = jax.random.split(key)
    column = jax.random.uniform(kernel_key, (fan_in, 1), minval=-limit, maxval=limit)
    entry = jax.random.uniform(bias_key, (1,), minval=-limit, maxval=limit)
    grown = {
        "kernel": jnp.concatenate([head["kernel"], column], 1),
        "bias": jnp.concatenate([head["bias"], entry]),
    }
    return variables._replace(params={**variables.params, "head": grown})


def fast_gradient_sign(
    logits_fn: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    labels: jax.Array,
    epsilon: float | jax.Array,
) -> jax.Array:
    """Images moved by ε · sign(∇ₓ CE), clipped to 0 … 255 and rounded to pixels.

    Args:
      logits_fn: images -> logits.
      images: (B, H, W, C), pixels 0 … 255.
      epsilon: share of the pixel range (0.1 is 25.5 of 255).
    """
    pixels = images.astype(jnp.float32)
    loss = lambda x: jnp.sum(vision.example_nll(logits_fn(x), labels))
    moved = pixels + 255 * epsilon * jnp.sign(jax.grad(loss)(pixels))
    return jnp.round(jnp.clip(moved, 0, 255))


def nearest_class(
    logits_fn: Callable[[jax.Array], jax.Array], batch: Any, epsilon: float | jax.Array
) -> jax.Array:
    """The label (B,) that the frozen model gives each image after an FGSM step."""
    moved = fast_gradient_sign(logits_fn, batch["images"], batch["labels"], epsilon)
    return jnp.argmax(logits_fn(moved), -1)


def boundary_expand(config: BoundaryExpand, setting: Setting) -> Plan:
    """Cross-entropy of forget images as a class that the network did not have."""
    new_class = setting.config.num_classes
    grown = dataclasses.replace(setting.config, num_classes=new_class + 1)
    wider = setting._replace(config=grown)
    method = descent(wider, Descent.sgd, config, _as_last_class, "forget")
    key = jax.random.fold_in(jax.random.key(setting.seed), new_class)
    grow = lambda variables: with_one_more_class(variables, key)
    return Plan(method, "forget", config=grown, start=grow)


def _as_last_class(
    logits_fn: vision.LogitsFn, params: Any, batch: Mapping[str, Any]
) -> jax.Array:
    """Cross-entropy of all images as the class of the head's last row."""
    logits = logits_fn(params, batch["images"])
    labels = jnp.full_like(batch["labels"], logits.shape[-1] - 1)
    return jnp.mean(vision.example_nll(logits, labels))


def boundary_shrink(config: BoundaryShrink, setting: Setting) -> Plan:
    """Cross-entropy of forget images as their nearest other class, before it."""
    return Plan(with_numbers(_boundary_shrink, config, *setting.compiled), "forget")


def _boundary_shrink(config: BoundaryShrink, *compiled) -> Method:
    setting, optimizer = Compiled(*compiled), config.sgd()

    def build(context: Context) -> Method:
        logits = logits_fn(setting.config, context)

        def loss(params, batch):
            before = lambda images: predict(setting.config, context.frozen, images)
            labels = nearest_class(before, batch, config.epsilon)
            return vision.cross_entropy(logits, params, {**batch, "labels": labels})

        return descend(loss, optimizer, "forget")

    cost = 1 + FORWARD_COST  # the adversarial step, and its label
    return vision_method(build, setting, "forget", freeze=copy_params, extra_cost=cost)


BOUNDARY_EXPAND = Spec(
    "Boundary expanding", "2303.11570", BoundaryExpand(), boundary_expand, SMALL_RATE
)
BOUNDARY_SHRINK = Spec(
    "Boundary shrinking", "2303.11570", BoundaryShrink(), boundary_shrink, SMALL_RATE
)
