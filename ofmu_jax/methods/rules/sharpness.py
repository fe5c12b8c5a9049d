"""Sharpness-aware gradients (SAM, arXiv 2010.01412) of one term of an objective.

`optax.contrib.sam` perturbs by the gradient that its optimizer is given, which is that
of the whole objective, and divides by a norm that may be 0; here one loss of several is
perturbed by its own gradient.
"""

from typing import Any

import jax
import optax

from ofmu_jax import bilevel
from ofmu_jax.methods.base import BatchLoss, Params


def passes(radius: Any) -> int:
    """Gradients that one sharpness-aware gradient takes: 1 without a radius, else 2."""
    return 1 if bilevel.is_static_zero(radius) else 2


def sharp_value_and_grad(
    loss: BatchLoss, params: Params, batch: Any, radius: Any
) -> tuple[jax.Array, Params]:
    """ℓ(θ), and ∇ℓ(θ + ρ g / ‖g‖) with g = ∇ℓ(θ) held fixed.

    ρ is ``radius``; a Python 0 leaves the second gradient out. Where g = 0 nothing is
    perturbed.
    """
    value, gradient = jax.value_and_grad(loss)(params, batch)
    if bilevel.is_static_zero(radius):
        return value, gradient
    direction, _ = bilevel.unit(gradient)
    moved = optax.tree.add_scale(bilevel.widen(params), radius, direction)
    return value, jax.grad(loss)(optax.tree.cast_like(moved, params), batch)
