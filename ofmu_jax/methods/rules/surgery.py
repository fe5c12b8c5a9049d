"""Gradient surgery: from the gradients of both losses to one direction.

Each function takes g_f and g_r of two losses that are both *minimised* (g_f of the
negated cross-entropy, say) and the two weights of `weighted_difference`, which steps
along what it returns at two gradients an update. The two conflict where
⟨g_f, g_r⟩ < 0: to follow the one then raises the other's loss. Inner products and
norms are taken in float32; directions come back in the dtypes of g_f.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import bilevel
from ofmu_jax.methods.base import Params


def share(a: Params, b: Params) -> jax.Array:
    """⟨a, b⟩ / ‖b‖²: how much of b is in a; 0 where b = 0."""
    wide = bilevel.widen(b)
    sq = optax.tree.norm(wide, squared=True)
    return bilevel.inner_product(a, wide) / jnp.where(sq > 0, sq, 1)


def pcgrad_direction(
    g_f: Params, g_r: Params, *, forget_weight: Any = 1.0, retain_weight: Any = 1.0
) -> Params:
    """PCGrad (arXiv 2001.06782): each without what opposes the other, summed.

    With f = γ g_f and r = α g_r: f + r where ⟨f, r⟩ ≥ 0; else
    (f − r ⟨f, r⟩ / ‖r‖²) + (r − f ⟨f, r⟩ / ‖f‖²).
    """
    f = optax.tree.scale(forget_weight, bilevel.widen(g_f))
    r = optax.tree.scale(retain_weight, bilevel.widen(g_r))
    of_f, of_r = jnp.minimum(share(r, f), 0), jnp.minimum(share(f, r), 0)
    return combined(g_f, (1 - of_f, f), (1 - of_r, r))


def gru_direction(
    g_f: Params, g_r: Params, *, forget_weight: Any = 1.0, retain_weight: Any = 1.0
) -> Params:
    """GRU (arXiv 2503.09117): g_f without what opposes g_r, and no retain step.

    g_f − g_r min(0, ⟨g_f, g_r⟩) / ‖g_r‖², times γ. The length of g_r plays no part,
    nor does ``retain_weight``.
    """
    del retain_weight
    opposed = jnp.minimum(share(g_f, g_r), 0)
    return combined(g_f, (forget_weight, g_f), (-forget_weight * opposed, g_r))


def ngdiff_direction(
    g_f: Params, g_r: Params, *, forget_weight: Any = 1.0, retain_weight: Any = 1.0
) -> Params:
    """NGDiff (arXiv 2410.22086): γ g_f / ‖g_f‖ + α g_r / ‖g_r‖, published with 1 and 1.

    A gradient of 0 is left out. To first order a step lowers both losses, whatever
    their scales are, unless the gradients are opposite.
    """
    (f, _), (r, _) = bilevel.unit(g_f), bilevel.unit(g_r)
    return combined(g_f, (forget_weight, f), (retain_weight, r))


def combined(like: Params, *terms: tuple[Any, Params]) -> Params:
    """Σ of weight times tree, in the dtypes of ``like``."""
    scaled = [optax.tree.scale(weight, bilevel.widen(tree)) for weight, tree in terms]
    return optax.tree.cast_like(optax.tree.add(*scaled), like)
