"""Selective synaptic dampening and Fisher forgetting: one step by a diagonal Fisher.

Both change each weight by its importance, the diagonal of a Fisher matrix in evaluation
mode, without augmentation, and train nothing.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ofmu_jax.bounds import Count, NotNegative, Positive
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.losses import vision
from ofmu_jax.methods.base import Range, Spec
from ofmu_jax.methods.vision.classifier import Context, logits_fn
from ofmu_jax.methods.vision.saliency import num_batches, numbered
from ofmu_jax.methods.vision.setting import Plan, Setting
from ofmu_jax.models.resnet import ResNetConfig, Variables

CAPS = {"head": 1e2, "": 1e3}  # of 1 / F, as its authors' code has them
SMALL = 1e-8  # added to F before it divides


@dataclasses.dataclass(frozen=True)
class Ssd:
    """SSD: weights that matter to forget images far more than to all are made small.

    α = 10 and λ = 1 are the published values for ResNet-18, for classes of CIFAR-20 and
    CIFAR-100 and for 100 images of CIFAR-10. As all images are forget images too, α
    has to be below |D| / |D_f|: 10 dampens nothing where one of ten classes goes.
    """

    alpha: Positive = 10.0
    """α: weights with a forget importance above α times that of all images are
    dampened."""
    dampening: NotNegative = 1.0
    """λ: they are multiplied by λ · importance to all / to forget images, at most 1."""
    group: Count | None = None
    """Images whose mean gradient is squared; default: a batch, as in its authors' code.
    1: the diagonal of the Fisher matrix, as in the paper."""


@dataclasses.dataclass(frozen=True)
class Fisher:
    """Fisher forgetting: noise on each weight, the more the less retain images need it.

    Its authors' code has a variance α / F, which this is; the paper's optimum is
    √(λσ² / F).
    """

    alpha: NotNegative = 1e-6
    """α: the variance is α / F."""
    samples: Count = 500
    """Retain images that F is taken over; published: all."""


def squared_gradient(logits_fn: vision.LogitsFn, params: Any, batch: Any) -> Any:
    """(∇ mean NLL)² of a batch, entry by entry; of one image its empirical Fisher."""
    gradient = jax.grad(vision.cross_entropy, argnums=1)(logits_fn, params, batch)
    return jax.tree.map(jnp.square, gradient)


def label_fisher(logits_fn: vision.LogitsFn, params: Any, image: jax.Array) -> Any:
    """Σ_y p_y (∇ log p_y)² of one image (1, H, W, C): the Fisher matrix's diagonal.

    It takes the memory of as many gradients as there are classes.
    """
    log_p = lambda p: jax.nn.log_softmax(logits_fn(p, image))[0]
    p = jnp.exp(log_p(params))
    return jax.tree.map(lambda j: jnp.tensordot(p, j * j, 1), jax.jacrev(log_p)(params))


def dampened(params: Any, forget: Any, every: Any, config: Ssd) -> Any:
    """θ · min(λ I_D / I_f, 1) where I_f > α I_D, else θ.

    Args:
      forget: I_f, importances for the forget images, a tree like the parameters.
      every: I_D, for all training images.

    >>> theta, forget, every = jnp.ones(3), jnp.array([4.0, 40.0, 0.0]), jnp.ones(3)
    >>> print(dampened(theta, forget, every, Ssd(alpha=10.0, dampening=2.0)))
    [1.   0.05 1.  ]
    """

    def one(theta, i_f, i_d):
        chosen = i_f > config.alpha * i_d
        ratio = config.dampening * i_d / jnp.where(chosen, i_f, 1)
        return jnp.where(chosen, theta * jnp.minimum(ratio, 1), theta)

    return jax.tree.map(one, params, forget, every)


def ssd(config: Ssd, setting: Setting, variables: Variables) -> Variables:
    """Dampens the weights once; I_D is the mean of both sets' by their sizes."""
    group = config.group or setting.batch_size
    forget, retain = (
        _importance(setting.config, variables, part, group)
        for part in (setting.forget, setting.retain)
    )
    share = len(setting.forget) / (len(setting.forget) + len(setting.retain))
    every = jax.tree.map(lambda f, r: share * f + (1 - share) * r, forget, retain)
    return variables._replace(params=dampened(variables.params, forget, every, config))


def _importance(
    config: ResNetConfig, variables: Variables, part: Labelled, group: int
) -> Any:
    """Mean of `squared_gradient` over the images, so many at a time."""
    batches = numbered(part, group, 0)
    return _mean_over(batches, lambda batch: _square(config, *variables, batch))


@functools.partial(jax.jit, static_argnums=0)
def _square(config, params, stats, batch):
    return squared_gradient(logits_fn(config, Context(stats), "running"), params, batch)


def _mean_over(items: Any, function: Callable[[Any], Any]) -> Any:
    total = function(items[0])
    for item in items[1:]:
        total = optax.tree.add(total, function(item))
    return optax.tree.scale(1 / len(items), total)


def fisher(config: Fisher, setting: Setting, variables: Variables) -> Variables:
    """θ + √(α / F) · normal noise, with the head's rows of forgotten classes from 0.

    As in its authors' code, 1 / F is capped, its mean over a layer's inputs is taken,
    the head and all vectors (BatchNorm, bias) get ten times the variance, and where a
    class has no retain image, its row of the head becomes noise of variance 0.001.
    """
    retain, kept = setting.retain, np.unique(setting.retain.labels)
    order = np.random.default_rng([setting.seed, 19]).permutation(len(retain))
    drawn = retain.take(order[: config.samples])
    images = [drawn.images[k : k + 1] for k in range(len(drawn))]
    found = _mean_over(images, lambda x: _label_fisher(setting.config, *variables, x))
    gone = ~np.isin(np.arange(setting.config.num_classes), kept)
    noise = optax.tree.random_like(
        jax.random.key(setting.seed), variables.params, jax.random.normal
    )
    move = lambda path, theta, f, draw: scrubbed(
        theta, f, draw, config.alpha, gone if path[0].key == "head" else None
    )
    moved = jax.tree.map_with_path(move, variables.params, found, noise)
    return variables._replace(params=moved)


@functools.partial(jax.jit, static_argnums=0)
def _label_fisher(config, params, stats, image):
    return label_fisher(logits_fn(config, Context(stats), "running"), params, image)


def scrubbed(
    theta: jax.Array,
    f: jax.Array,
    noise: jax.Array,
    alpha: float,
    gone: np.ndarray | None,
) -> jax.Array:
    """One array of weights with its noise; the last axis is that of outputs.

    Args:
      f: F, and ``noise`` a normal draw, of the same shape.
      gone: of the head, which classes (C,) are forgotten; None: another array.
    """
    cap = CAPS["" if gone is None else "head"]
    variance = alpha * jnp.minimum(1 / (f + SMALL), cap)
    if theta.ndim > 1:
        variance = jnp.broadcast_to(variance.mean(-2, keepdims=True), theta.shape)
    if gone is not None:
        theta, variance = jnp.where(gone, 0, theta), jnp.where(gone, 1e-4, variance)
    if gone is not None or theta.ndim == 1:
        variance = 10 * variance
    return theta + jnp.sqrt(variance) * noise


def build_ssd(config: Ssd, setting: Setting) -> Plan:
    """All at once; a pass over the forget and one over the retain images."""
    size = setting.batch_size
    group = config.group or size
    groups = num_batches(setting.forget, group) + num_batches(setting.retain, group)
    step = functools.partial(ssd, config, setting)
    # I_D ≥ I_f |D_f| / |D|, so that nothing is above so many times as much.
    most = (len(setting.forget) + len(setting.retain)) / len(setting.forget)
    note = ""
    if config.alpha >= most:
        note = (
            f"with {len(setting.forget) / len(setting.retain):.1%} as many images to "
            f"forget as to keep, no weight is dampened from --ssd.alpha {most:.3g} on "
            f"(it is {config.alpha:g}); set it lower."
        )
    return Plan(None, setup_cost=groups * group / size, one_shot=step, note=note)


def build_fisher(config: Fisher, setting: Setting) -> Plan:
    """All at once; a forward pass and one backward pass a class for each image."""
    images = min(config.samples, len(setting.retain))
    each = (1 + 2 * setting.config.num_classes) / 3
    step = functools.partial(fisher, config, setting)
    return Plan(None, setup_cost=images * each / setting.batch_size, one_shot=step)


_SSD_SEARCH = {
    "alpha": Range(1.0, 50.0, log=True),
    "dampening": Range(0.1, 10.0, log=True),
}
SSD = Spec("SSD", "2308.07707", Ssd(), build_ssd, _SSD_SEARCH)
FISHER = Spec(
    "Fisher forgetting",
    "1911.04933",
    Fisher(),
    build_fisher,
    {"alpha": Range(1e-9, 1e-5, log=True)},
)
