"""BLUR: retain only along directions that the forget loss does not feel.

The nearest bi-level method (arXiv 2506.08164): the forget loss comes first, and the
retain loss chooses among its minimisers.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import bilevel
from ofmu_jax.methods.base import Params
from ofmu_jax.methods.rules.weighted import weighted_difference


def blur_direction(
    g_f: Params,
    g_r: Params,
    *,
    forget_weight: float | jax.Array = 1.0,
    retain_weight: float | jax.Array = 1.0,
) -> Params:
    """γ g_f + α (g_r − g_f ⟨g_f, g_r⟩ / ‖g_f‖²), g_f of the *minimised* forget loss.

    γ is ``forget_weight``, α ``retain_weight``. The published code for MUSE has
    γ = 1 and α = 1, that for WMDP γ = 1 and α = 800. To first order a step of size η
    lowers the forget loss by η γ ‖g_f‖², whatever the retain gradient is. Where
    g_f = 0 nothing is projected out. Inner products are taken in float32.
    """
    wide_f, wide_r = bilevel.widen(g_f), bilevel.widen(g_r)
    sq = optax.tree.norm(wide_f, squared=True)
    share = bilevel.inner_product(wide_f, wide_r) / jnp.where(sq > 0, sq, 1)
    direction = optax.tree.add(
        optax.tree.scale(forget_weight - retain_weight * share, wide_f),
        optax.tree.scale(retain_weight, wide_r),
    )
    return optax.tree.cast_like(direction, g_f)


# Steps along that direction. Published with NPO and the retain cross-entropy (MUSE) and
# with RMU's two losses (WMDP).
blur = functools.partial(weighted_difference, direction=blur_direction)
