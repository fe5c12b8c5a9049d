"""One outer iteration of OFMU, the body of the transform `ofmu_jax.ofmu`."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import _trees, bilevel
from ofmu_jax.bilevel import Params, StepLossFn
from ofmu_jax.choices import Base, PenaltyGradient

BASES = get_args(Base)
PENALTY_GRADIENTS = get_args(PenaltyGradient)
METRICS = ("phi", "forget_loss", "retain_loss", "cosine", "phi_grad_norm", "rho")


class OfmuState(NamedTuple):
    """State of `ofmu`; the scalars describe the last outer iteration at θ'_T.

    `ofmu` says which are of θ'_{T−1}, or NaN, where no penalty asks for them.
    They are float32, or float64 if the parameters are.
    """

    outer_iteration: jax.Array  # shape=(), dtype=int32
    inner_state: optax.OptState  # of the inner optimizer, carried over
    outer_state: optax.OptState  # of the outer optimizer
    phi: jax.Array  # Φ; shape=()
    forget_loss: jax.Array  # L_f; shape=()
    retain_loss: jax.Array  # L_r; shape=()
    cosine: jax.Array  # of ∇L_f and ∇L_r; shape=()
    phi_grad_norm: jax.Array  # ‖∇Φ‖; shape=()
    rho: jax.Array  # the ρ it used; shape=()
    inner_moves: jax.Array  # inner steps that did not rest; shape=(), dtype=int32


@dataclasses.dataclass(frozen=True)
class Loops:
    """The options of `ofmu`, and one outer iteration in parts."""

    outer_optimizer: optax.GradientTransformationExtraArgs
    inner_optimizer: optax.GradientTransformationExtraArgs
    inner_steps: int
    beta: Any
    rho: Any
    similarity: str
    base: str
    curvature: str
    outer_steps: int
    retain_direction: str
    penalty_gradient: str
    penalty_clip: Any
    forget_target: Any
    unroll: bool

    @property
    def penalised(self) -> bool:
        return not bilevel.is_static_zero(self.rho)

    @property
    def secant(self) -> bool:
        return self.penalised and self.penalty_gradient == "secant"

    @property
    def differences(self) -> bool:
        """Whether gradients are subtracted, which bfloat16 would round away."""
        inexact = self.penalised and self.penalty_gradient != "exact"
        return inexact or self.curvature == "finite_difference"

    @property
    def exact_curvature(self) -> str:
        """Exact third derivatives go through exact second ones."""
        return "vjp" if self.curvature == "finite_difference" else self.curvature

    @property
    def penalty_phi_curvature(self) -> str:
        """How ∇Φ inside the penalty is computed."""
        exact = self.penalty_gradient == "exact"
        return self.exact_curvature if exact else self.curvature

    def check(self) -> None:
        """Raises ValueError for an unknown option or a bad count."""
        for name, choices in (
            ("similarity", bilevel.SIMILARITIES),
            ("base", BASES),
            ("curvature", bilevel.CURVATURES),
            ("retain_direction", bilevel.RETAIN_DIRECTIONS),
            ("penalty_gradient", PENALTY_GRADIENTS),
        ):
            bilevel.check_choice(name, getattr(self, name), choices)
        _check_count("inner_steps", self.inner_steps, least=0)
        _check_count("outer_steps", self.outer_steps, least=1)
        if self.inner_steps == 0 and (self.secant or not self.penalised):
            raise ValueError(
                "inner_steps=0 leaves no inner step to take the secant or the metrics "
                "from; use inner_steps >= 1, or a penalty with another gradient."
            )

    def init(self, params: Params) -> OfmuState:
        theta = bilevel.widen(_trees.differentiable(params))
        zero = jnp.zeros((), _metric_dtype(theta))
        return OfmuState(
            outer_iteration=jnp.zeros((), jnp.int32),
            inner_state=self.inner_optimizer.init(theta),
            outer_state=self.outer_optimizer.init(theta),
            **dict.fromkeys(METRICS, zero),
            inner_moves=jnp.zeros((), jnp.int32),
        )

    def iterate(
        self,
        params: Params,
        state: OfmuState,
        forget_loss: StepLossFn,
        retain_loss: StepLossFn,
        extra_args: Mapping[str, Any],
    ) -> tuple[Params, OfmuState]:
        """θ_k → θ'_T → θ_{k+1}; returns the difference and the new state."""
        start = bilevel.widen(_trees.differentiable(params))
        losses = [
            _trees.scalar(name, self._of_wide_params(loss, params))
            for name, loss in (
                ("forget_loss", forget_loss),
                ("retain_loss", retain_loss),
            )
        ]
        dtype = _metric_dtype(start)
        rho = self.rho
        if callable(rho):  # counted in the width of the parameters, so ρ has it too
            rho = rho(state.outer_iteration.astype(f"int{8 * dtype.itemsize}"))
        direction = self._frozen_direction(losses[1], start)
        ascent = bilevel.inner_ascent(
            start,
            *losses,
            inner_optimizer=self.inner_optimizer,
            inner_steps=self.inner_steps,
            beta=self.beta,
            optimizer_state=state.inner_state,
            similarity=self.similarity,
            curvature=self.curvature,
            retain_direction=direction,
            forget_target=self.forget_target,
            keep_last=self.secant,
            unroll=self.unroll,
        )
        change, outer_state, records = self._descend(
            ascent, state.outer_state, losses, rho, direction, extra_args
        )
        if self.base == "inner":  # `change` is θ_{k+1} there
            change = optax.tree.sub(change, start)
        metrics = {n: x[-1] for n, x in ascent.trace.items() if self.inner_steps > 0}
        metrics |= {n: x[0] for n, x in records.items()} | {"rho": rho}
        return _trees.like(params, change), OfmuState(
            outer_iteration=jnp.asarray(optax.safe_increment(state.outer_iteration)),
            inner_state=ascent.optimizer_state,
            outer_state=outer_state,
            **{name: jnp.asarray(metrics[name], dtype) for name in METRICS},
            inner_moves=jnp.sum(ascent.trace["moved"], dtype=jnp.int32),
        )

    def _of_wide_params(self, loss: StepLossFn, params: Params) -> StepLossFn:
        """The loss as a function of widened parameters without constants."""

        def of_wide(theta, step):
            if not self.differences:
                theta = optax.tree.cast_like(theta, _trees.differentiable(params))
            return loss(_trees.complete(theta, params), step)

        return of_wide

    def _frozen_direction(self, retain_loss: StepLossFn, start: Params):
        """ĝ_r at θ_k on the batch of step 0, if it is to be frozen."""
        if self.retain_direction == "fresh" or bilevel.is_static_zero(self.beta):
            return None
        return bilevel.unit(jax.grad(retain_loss)(start, jnp.zeros((), jnp.int32)))[0]

    def _phi_at(self, losses, step, direction) -> bilevel.PhiFn:
        """Φ of one step as a function of parameters, for the penalty."""
        return functools.partial(
            bilevel.evaluate_phi,
            forget_loss=lambda theta: losses[0](theta, step),
            retain_loss=lambda theta: losses[1](theta, step),
            beta=self.beta,
            similarity=self.similarity,
            curvature=self.penalty_phi_curvature,
            retain_direction=direction,
        )

    def _penalty(self, phi_fn: bilevel.PhiFn) -> bilevel.CurvatureFn:
        """θ ↦ Φ and ∇²Φ ∇Φ, exact or by differences."""
        if self.penalty_gradient == "finite_difference":
            curvature = "finite_difference"
        else:
            curvature = self.exact_curvature
        return lambda theta: bilevel.phi_curvature(
            phi_fn,
            theta,
            curvature,
            phi_is_difference=self.penalty_phi_curvature == "finite_difference",
        )

    def _secant_penalty(self, phi_fn, ascent: bilevel.Ascent) -> bilevel.CurvatureFn:
        """The same from the last inner step, at θ'_T: once for all outer steps."""
        phi = phi_fn(ascent.params)
        product = bilevel.secant_product(
            phi.gradient, ascent.last_gradient, ascent.last_step
        )
        phi = phi._replace(retain_gradient=None)  # that one is of another batch
        return lambda theta: (phi, product)

    def _descend(self, ascent, outer_state, losses, rho, direction, extra_args):
        """The outer steps from θ'_T: where they end (or, for base "outer", the sum of
        their updates), the optimizer's state, and per step what was found."""
        last_step = jnp.array(self.inner_steps - 1, jnp.int32)
        last_phi = self._phi_at(losses, last_step, direction)
        secant = self._secant_penalty(last_phi, ascent) if self.secant else None

        def descend(carry, step):
            theta, total, state = carry
            phi_fn, penalty = self._phi_at(losses, step, direction), None
            if self.penalised:
                penalty = secant or self._penalty(phi_fn)
            outer = bilevel.evaluate_outer(
                theta,
                lambda p: losses[1](p, step),
                penalty,
                rho=rho,
                penalty_clip=self.penalty_clip,
            )

            def objective(p):  # F, for optimizers that search along a line
                value = losses[1](p, step)
                if not self.penalised:
                    return value
                phi = (last_phi if self.secant else phi_fn)(p)
                return value + rho * bilevel.norm(phi.gradient) ** 2

            gradient = optax.tree.cast_like(outer.gradient, theta)
            search = {
                "value": _objective(outer, rho),
                "grad": gradient,
                "value_fn": objective,
            }
            change, state = self.outer_optimizer.update(
                gradient, state, theta, **(search | extra_args)
            )
            change = optax.tree.cast_like(change, theta)
            if total is not None:
                total = optax.tree.add(total, change)
            return (optax.tree.add(theta, change), total, state), _record(outer)

        total = optax.tree.zeros_like(ascent.params) if self.base == "outer" else None
        steps = jnp.arange(self.outer_steps, dtype=jnp.int32) + self.inner_steps
        carry = (ascent.params, total, outer_state)
        carry, records = bilevel.scan(descend, carry, steps, self.unroll)
        theta, total, outer_state = carry
        return (theta if total is None else total), outer_state, records


def _objective(outer: bilevel.OuterEvaluation, rho: Any) -> jax.Array:
    """F, from what was found."""
    if outer.phi is None:
        return outer.retain_loss
    return outer.retain_loss + rho * bilevel.norm(outer.phi.gradient) ** 2


def _record(outer: bilevel.OuterEvaluation) -> dict[str, jax.Array]:
    """The metrics that an outer step finds."""
    record, phi = {"retain_loss": outer.retain_loss}, outer.phi
    if phi is None:
        return record
    cosine = phi.cosine
    if phi.retain_gradient is None:  # of a frozen direction, or of none
        cosine = bilevel.cosine(phi.forget_gradient, outer.retain_gradient)
    return record | {
        "phi": phi.phi,
        "forget_loss": phi.forget_loss,
        "cosine": cosine,
        "phi_grad_norm": bilevel.norm(phi.gradient),
    }


def _metric_dtype(theta: Params) -> jnp.dtype:
    """Float32, or float64 if a parameter is."""
    dtypes = [jnp.result_type(x) for x in jax.tree.leaves(theta)]
    return jnp.result_type(jnp.float32, *dtypes)


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(
            f"{name} must be a Python int, got {value!r}; under "
            "optax.inject_hyperparams pass static_args=('inner_steps', 'outer_steps')."
        )
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
