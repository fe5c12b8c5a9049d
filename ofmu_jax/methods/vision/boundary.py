"""Boundary unlearning (Chen et al., CVPR 2023): expanding and shrinking.

Both move forget images across a decision boundary. Expanding gives them to a new
class of their own; shrinking to the class that a small adversarial step leads to.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ofmu_jax.losses import vision
from ofmu_jax.models.resnet import Variables


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
