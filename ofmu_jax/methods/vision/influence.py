"""Influence unlearning with WoodFisher, in one shot (arXiv 2304.04934, Wfisher).

Removing the n_f forget images from a training set of n = n_f + n_r moves the minimum
by about H⁻¹ v, with v = (n_f / n)(ḡ_f − ḡ_r), ḡ mean gradients. As its authors do, H⁻¹
is applied by a recursion of rank-one corrections over single retain images that keeps
two vectors only, and the step is multiplied by a tuned α.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ofmu_jax.bounds import Count, NotNegative
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.losses import vision
from ofmu_jax.methods.base import Range, Spec
from ofmu_jax.methods.vision.classifier import Context, logits_fn
from ofmu_jax.methods.vision.saliency import num_batches, total_gradient
from ofmu_jax.methods.vision.setting import Plan, Setting
from ofmu_jax.models.resnet import ResNetConfig, Variables


@dataclasses.dataclass(frozen=True)
class Influence:
    """IU: one step along the inverse Fisher matrix."""

    alpha: NotNegative = 1.0
    """α, length of the step in units of the influence estimate."""
    samples: Count = 1000
    """Single retain images that the inverse is built from."""


def woodfisher_step(carry, gradient: jax.Array, count: float):
    """One rank-one correction: from (k, o) with a gradient g and N = ``count``.

    k ← k − (k·g) o / (N + o·g),  o ← o − (o·g) o / (N + o·g); the first gradient only
    sets o ← g (``carry`` holds None in its place). A denominator that is not above 0
    cannot occur in the exact recursion, so there the step is left out.
    """
    k, o = carry
    if o is None:
        return k, gradient
    along = o @ gradient
    denominator = count + along
    safe = jnp.where(denominator > 0, denominator, 1)
    scale = jnp.where(denominator > 0, 1 / safe, 0)
    return k - (k @ gradient) * scale * o, o - along * scale * o


def woodfisher(v: jax.Array, gradients, count: int) -> jax.Array:
    """The recursion over rows of ``gradients`` (M, P), in order.

    >>> g = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    >>> print(woodfisher(jnp.array([2.0, 3.0]), g, count=1))  # 2 − 2·1/(1 + 1)
    [1. 3.]
    """
    carry = woodfisher_step((v, None), gradients[0], count)
    step = lambda carry, g: (woodfisher_step(carry, g, count), None)
    return jax.lax.scan(step, carry, gradients[1:])[0][0]


def influence(config: Influence, setting: Setting, variables: Variables) -> Variables:
    """θ + α · WoodFisher(v), in evaluation mode, without augmentation.

    Raises:
      FloatingPointError: if the step is not finite.
    """
    forget, retain = setting.forget, setting.retain
    g_f, g_r = (
        total_gradient(setting.config, variables, part, setting.batch_size)
        for part in (forget, retain)
    )
    total = len(forget) + len(retain)
    share = len(forget) / len(retain)
    order = np.random.default_rng([setting.seed, 17]).permutation(len(retain))
    drawn = retain.take(order[: max(2, config.samples)])
    v = _moved_minimum(g_f, g_r, share, total)
    step = _recursion(setting.config, variables, drawn, v)
    if not bool(jnp.isfinite(step).all()):
        raise FloatingPointError(
            "the influence step is not finite; use fewer --influence.samples."
        )
    return variables._replace(params=_moved(variables.params, config.alpha, step))


@jax.jit
def _moved_minimum(g_f: Any, g_r: Any, share: float, total: float) -> jax.Array:
    """v, of gradients of summed losses; ``share`` is n_f / n_r."""
    return (ravel_pytree(g_f)[0] - share * ravel_pytree(g_r)[0]) / total


@jax.jit
def _moved(params: Any, alpha: float, step: jax.Array) -> Any:
    flat, unravel = ravel_pytree(params)
    return unravel(flat + alpha * step)


def _recursion(
    config: ResNetConfig, variables: Variables, drawn: Labelled, v: jax.Array
) -> jax.Array:
    """`woodfisher` with gradients computed one by one, never all in memory.

    One call of a program for each image, not one loop in a program: XLA's convolutions
    are far slower within a loop on a CPU (github.com/jax-ml/jax/issues/12868).
    """
    carry: Any = (v, None)
    for k in range(len(drawn)):
        one = drawn.images[k : k + 1], drawn.labels[k : k + 1]
        carry = _next_image(config, variables, carry, float(len(drawn)), *one)
    return carry[0]


@functools.partial(jax.jit, static_argnums=0)
def _next_image(config, variables, carry, count: float, images, labels):
    logits = logits_fn(config, Context(variables.batch_stats), "running")
    batch: Any = {"images": images, "labels": labels}
    loss = lambda p: vision.cross_entropy(logits, p, batch)
    gradient = ravel_pytree(jax.grad(loss)(variables.params))[0]
    return woodfisher_step(carry, gradient, count)


def influence_cost(config: Influence, setting: Setting) -> float:
    """Gradients of one batch: two full passes, and 1 / B for each single image."""
    size, retain = setting.batch_size, setting.retain
    full = num_batches(setting.forget, size) + num_batches(retain, size)
    return full + min(max(2, config.samples), len(retain)) / size


def build(config: Influence, setting: Setting) -> Plan:
    """All at once, at the cost of the gradients that it takes."""
    step = functools.partial(influence, config, setting)
    return Plan(None, setup_cost=influence_cost(config, setting), one_shot=step)


_SEARCH = {"alpha": Range(1.0, 20.0, log=True)}
SPEC = Spec("Influence unlearning", "2304.04934", Influence(), build, _SEARCH)
