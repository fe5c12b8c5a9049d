r"""The penalty of the outer problem, and ∇F with it.

``"gradient_norm"`` is the paper's ‖∇Φ‖². It vanishes wherever Φ is stationary, at a
minimum too; ``"value_gap"`` is (Φ* − Φ)₊ with the known maximum Φ* of a bounded forget
loss, which has the same solutions under the error bound ½‖∇Φ‖² ≥ μ(Φ* − Φ) that the
theory of penalties assumes (arXiv 2302.05185), and its gradient is that of Φ.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import _trees
from ofmu_jax._derivatives import PhiEvaluation
from ofmu_jax._trees import LossFn, Params, norm, widen
from ofmu_jax.choices import Penalty as PenaltyName

PENALTIES = get_args(PenaltyName)


class Penalty(NamedTuple):
    """What one evaluation of the penalty yields."""

    phi: PhiEvaluation
    value: jax.Array  # ‖∇Φ‖² or (Φ* − Φ)₊; shape=()
    # Its gradient is factor · direction: no tree more is held than there is.
    factor: jax.Array  # shape=()
    direction: Params


PenaltyFn = Callable[[Params], Penalty]


class OuterEvaluation(NamedTuple):
    """What one evaluation of ∇F yields; trees are float32 or wider."""

    gradient: Params  # ∇F(θ), its penalty clipped if that was asked for
    objective: jax.Array  # F(θ); shape=()
    retain_loss: jax.Array  # L_r(θ); shape=()
    retain_gradient: Params  # g_r
    phi: PhiEvaluation | None  # None without a penalty


class AdaptiveRho(NamedTuple):
    """ρ as the multiplier of the constraint Φ ≥ Φ* − tolerance.

    ρ⁺ = [ρ + rate (Φ* − tolerance − Φ)]₊, at most ``largest``: it rises while rows are
    not forgotten and lets go when they are, which a schedule that only rises cannot.
    """

    initial: float | jax.Array = 0.0
    rate: float | jax.Array = 0.1
    tolerance: float | jax.Array = 0.1  # of the gap, in the units of Φ
    largest: float | jax.Array = 1.0

    def following(self, rho: jax.Array, gap: jax.Array) -> jax.Array:
        """The ρ after one that met the gap Φ* − Φ; the same where it is not finite."""
        moved = jnp.clip(rho + self.rate * (gap - self.tolerance), 0, self.largest)
        return jnp.where(jnp.isfinite(gap), moved, rho)


def gradient_norm(phi: PhiEvaluation, product: Params) -> Penalty:
    """‖∇Φ‖², of ∇²Φ ∇Φ."""
    return Penalty(phi, norm(phi.gradient) ** 2, jnp.asarray(2.0), product)


def value_gap(phi: PhiEvaluation, maximum: float | jax.Array) -> Penalty:
    """(Φ* − Φ)₊."""
    gap = jnp.maximum(maximum - phi.phi, 0)
    return Penalty(phi, gap, jnp.where(gap > 0, -1.0, 0.0), phi.gradient)


def maximum_for(penalty: PenaltyName, maximum: Any) -> Any:
    """Φ* as it is, 0 where it is not needed; ValueError where a value gap has none."""
    _trees.check_choice("penalty", penalty, PENALTIES)
    if penalty == "gradient_norm":
        return 0.0
    if maximum is None:
        raise ValueError(
            "penalty='value_gap' is the gap to the maximum of Φ: pass maximum=, 0 "
            "for a forget loss that 0 bounds (and beta more with the plain cosine); "
            "an unbounded loss has none: penalty='gradient_norm'."
        )
    return maximum


def evaluate_outer(
    params: Params,
    retain_loss: LossFn,
    penalty_fn: PenaltyFn | None,
    *,
    rho: float | jax.Array,
    penalty_clip: float | jax.Array | None = None,
) -> OuterEvaluation:
    """F = L_r + ρ P, ∇F and what was found on the way.

    Args:
      retain_loss: L_r, parameters -> scalar.
      penalty_fn: gives P and its gradient at θ; None: no penalty. If its Φ has no
        retain gradient, L_r is differentiated here.
      rho: ρ.
      penalty_clip: the penalty's norm is at most this multiple of ‖∇L_r‖.
    """
    penalty = None if penalty_fn is None else penalty_fn(params)
    if penalty is not None and penalty.phi.retain_gradient is not None:
        l_r, g_r = penalty.phi.retain_loss, penalty.phi.retain_gradient
    else:
        retain_loss = _trees.scalar("retain_loss", retain_loss)
        l_r, g_r = jax.value_and_grad(retain_loss)(params)
        g_r = widen(g_r)
    if penalty is None:
        return OuterEvaluation(g_r, l_r, l_r, g_r, None)
    weight = rho * penalty.factor
    if penalty_clip is not None:
        length = jnp.abs(weight) * norm(penalty.direction)
        weight *= _trees.shrinking(length, penalty_clip * norm(g_r))
    gradient = optax.tree.add_scale(g_r, weight, penalty.direction)
    return OuterEvaluation(gradient, l_r + rho * penalty.value, l_r, g_r, penalty.phi)
