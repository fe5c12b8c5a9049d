"""The options of the transform `ofmu_jax.ofmu`, checked, and what follows from them."""

import dataclasses
from typing import Any, get_args

import optax

from ofmu_jax import bilevel, choices
from ofmu_jax.choices import FIRST_ORDER, PENALTY_GRADIENTS_OF, Base, PenaltyGradient

BASES = get_args(Base)
PENALTY_GRADIENTS = get_args(PenaltyGradient)
_BY_DIFFERENCES = ("finite_difference", "secant")


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `ofmu`; see there for each."""

    outer_optimizer: optax.GradientTransformationExtraArgs
    inner_optimizer: optax.GradientTransformationExtraArgs
    inner_steps: int
    beta: Any
    rho: Any
    similarity: choices.Similarity
    base: choices.Base
    curvature: choices.Curvature
    outer_steps: int
    retain_direction: choices.RetainDirection
    penalty: choices.Penalty
    penalty_gradient: choices.PenaltyGradient
    penalty_clip: Any
    maximum: Any
    lookahead_max_step: Any
    forget_target: Any
    unroll: bool

    @property
    def penalised(self) -> bool:
        return not bilevel.is_static_zero(self.rho)

    @property
    def similar(self) -> bool:
        return not bilevel.is_static_zero(self.beta)

    @property
    def carries(self) -> bool:
        """Whether an update leaves a direction to the next one."""
        return self.similar and self.retain_direction == "carried"

    @property
    def holds_shift(self) -> bool:
        """Whether one look-ahead serves the whole update."""
        held = self.retain_direction != "fresh"
        return self.similar and held and self.curvature == "lookahead"

    @property
    def secant(self) -> bool:
        return self.penalised and self.penalty_gradient == "secant"

    @property
    def penalty_carried(self) -> bool:
        return self.penalised and self.penalty_gradient == "carried"

    @property
    def differences(self) -> bool:
        """Whether gradients at near points differ, which bfloat16 would round away."""
        inexact = self.penalised and self.penalty_gradient in _BY_DIFFERENCES
        near = self.similar and self.curvature in FIRST_ORDER
        return inexact or near or self.curvature == "finite_difference"

    @property
    def exact_curvature(self) -> choices.Curvature:
        """Exact third derivatives go through exact second ones."""
        inexact = self.curvature in FIRST_ORDER
        return "vjp" if inexact else self.curvature

    @property
    def penalty_phi_curvature(self) -> choices.Curvature:
        """How ∇Φ inside the penalty is computed."""
        norm = self.penalty == "gradient_norm"
        exact = norm and self.penalty_gradient == "exact"
        return self.exact_curvature if exact else self.curvature

    def check(self) -> None:
        """Raises ValueError for an unknown option or a bad count."""
        for name, known in (
            ("similarity", bilevel.SIMILARITIES),
            ("base", BASES),
            ("curvature", bilevel.CURVATURES),
            ("retain_direction", bilevel.RETAIN_DIRECTIONS),
            ("penalty", bilevel.PENALTIES),
            ("penalty_gradient", PENALTY_GRADIENTS),
        ):
            bilevel.check_choice(name, getattr(self, name), known)
        _check_count("inner_steps", self.inner_steps, least=0)
        _check_count("outer_steps", self.outer_steps, least=1)
        if isinstance(self.rho, str):
            bilevel.check_choice("rho", self.rho, ("adaptive",))
        adaptive = isinstance(self.rho, (str, bilevel.AdaptiveRho))
        if self.penalised:
            bilevel.maximum_for(self.penalty, self.maximum)
            fitting = PENALTY_GRADIENTS_OF[self.penalty]
            if self.penalty_gradient not in fitting:
                raise ValueError(
                    f"penalty_gradient={self.penalty_gradient!r} is none of "
                    f"penalty={self.penalty!r}; choose one of {fitting}."
                )
            if adaptive and self.maximum is None:
                raise ValueError(
                    "an adaptive rho follows the gap to the maximum of Φ: pass "
                    "maximum=, or a number or a schedule as rho."
                )
        reused = self.secant or self.penalty_carried or self.carries
        if self.inner_steps == 0 and (reused or not self.penalised):
            raise ValueError(
                "inner_steps=0 leaves no inner step to take the secant, what is "
                "carried or the metrics from; use inner_steps >= 1, or a penalty with "
                "another gradient."
            )


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(
            f"{name} must be a Python int, got {value!r}; under "
            "optax.inject_hyperparams pass static_args=('inner_steps', 'outer_steps')."
        )
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
