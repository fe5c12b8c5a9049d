"""BLUR: retain only along directions that the forget loss does not feel.

The nearest bi-level method (arXiv 2506.08164): the forget loss comes first, and the
retain loss chooses among its minimisers.
"""

import functools

import jax

from ofmu_jax.methods.base import Params
from ofmu_jax.methods.rules.surgery import combined, share
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
    shared = retain_weight * share(g_r, g_f)
    return combined(g_f, (forget_weight - shared, g_f), (retain_weight, g_r))


# Steps along that direction. Published with NPO and the retain cross-entropy (MUSE) and
# with RMU's two losses (WMDP).
blur = functools.partial(weighted_difference, direction=blur_direction)
