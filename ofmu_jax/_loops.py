"""One outer iteration of OFMU, the body of the transform `ofmu_jax.ofmu`."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import _trees, bilevel
from ofmu_jax._options import Options
from ofmu_jax.bilevel import Params, StepLossFn

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
    carried: Params  # for the next update: ĝ_r, or the shift of the look-ahead; or ()


@dataclasses.dataclass(frozen=True)
class Loops(Options):
    """One outer iteration in parts."""

    def init(self, params: Params) -> OfmuState:
        theta = bilevel.widen(_trees.differentiable(params))
        dtype = _metric_dtype(theta)
        return OfmuState(
            outer_iteration=jnp.zeros((), jnp.int32),
            inner_state=self.inner_optimizer.init(theta),
            outer_state=self.outer_optimizer.init(theta),
            # An array each: a step that takes the state's memory over needs that.
            **{name: jnp.zeros((), dtype) for name in METRICS},
            inner_moves=jnp.zeros((), jnp.int32),
            carried=optax.tree.zeros_like(theta) if self.carries else (),
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
        named = (("forget_loss", forget_loss), ("retain_loss", retain_loss))
        losses = [_trees.scalar(n, self._of_wide_params(f, params)) for n, f in named]
        dtype = _metric_dtype(start)
        rho = self._rho(state, dtype)
        held = self._held(losses, start, state)
        ascent = bilevel.inner_ascent(
            start,
            *losses,
            inner_optimizer=self.inner_optimizer,
            inner_steps=self.inner_steps,
            beta=self.beta,
            optimizer_state=state.inner_state,
            similarity=self.similarity,
            curvature=self.curvature,
            lookahead_max_step=self.lookahead_max_step,
            **held,
            forget_target=self.forget_target,
            keep_gradient=self.secant or self.penalty_carried or self.holds_shift,
            keep_step=self.secant,
            unroll=self.unroll,
        )
        change, outer_state, records, g_r = self._descend(
            ascent, state, losses, rho, held, extra_args
        )
        if self.base == "inner":  # `change` is θ_{k+1} there
            change = optax.tree.sub(change, start)
        metrics = {n: x[-1] for n, x in ascent.trace.items() if self.inner_steps > 0}
        metrics |= {n: x[0] for n, x in records.items()} | {"rho": rho}
        carried = state.carried
        if self.carries:
            carried, c = self._carry(ascent, g_r)
            metrics |= {"cosine": c} if self.holds_shift else {}
        return _trees.like(params, change), OfmuState(
            outer_iteration=jnp.asarray(optax.safe_increment(state.outer_iteration)),
            inner_state=ascent.optimizer_state,
            outer_state=outer_state,
            **{name: jnp.asarray(metrics[name], dtype) for name in METRICS},
            inner_moves=jnp.sum(ascent.trace["moved"], dtype=jnp.int32),
            carried=carried,
        )

    def _rho(self, state: OfmuState, dtype: jnp.dtype) -> Any:
        """The ρ of this update."""
        rho = bilevel.AdaptiveRho() if isinstance(self.rho, str) else self.rho
        if isinstance(rho, bilevel.AdaptiveRho):
            later = rho.following(state.rho, self.maximum - state.phi)
            return jnp.where(state.outer_iteration == 0, rho.initial, later)
        if callable(rho):  # counted in the width of the parameters, so ρ has it too
            return rho(state.outer_iteration.astype(f"int{8 * dtype.itemsize}"))
        return rho

    def _of_wide_params(self, loss: StepLossFn, params: Params) -> StepLossFn:
        """The loss as a function of widened parameters without constants."""

        def of_wide(theta, step):
            if not self.differences:
                theta = optax.tree.cast_like(theta, _trees.differentiable(params))
            return loss(_trees.complete(theta, params), step)

        return of_wide

    def _held(self, losses, start: Params, state: OfmuState) -> dict[str, Any]:
        """What of the retain gradient holds for a whole update, if anything: ĝ_r, or
        the look-ahead of it; ``"frozen"`` is taken at θ_k on the batch of step 0."""
        if not self.similar or self.retain_direction == "fresh":
            return {}
        zero = jnp.zeros((), jnp.int32)
        if self.carries:
            if not self.holds_shift:
                return {"retain_direction": state.carried}
            return {"lookahead": bilevel.Lookahead(state.carried, state.cosine)}
        g_r = jax.grad(losses[1])(start, zero)
        if not self.holds_shift:
            return {"retain_direction": bilevel.unit(g_r)[0]}
        return {
            "lookahead": self._look_ahead(start, jax.grad(losses[0])(start, zero), g_r)
        }

    def _look_ahead(self, params, g_f, g_r) -> bilevel.Lookahead:
        return bilevel.look_ahead(
            params,
            g_f,
            g_r,
            beta=self.beta,
            similarity=self.similarity,
            max_step=self.lookahead_max_step,
        )

    def _carry(self, ascent: bilevel.Ascent, g_r: Params) -> tuple[Params, jax.Array]:
        """What the next update holds, of the last gradients of this one, and their
        cosine; nothing where they are not finite."""
        if self.holds_shift:
            new, c = self._look_ahead(ascent.params, ascent.last_gradient, g_r)
        else:
            new, c = bilevel.unit(g_r)[0], bilevel.norm(g_r)
        finite = jnp.isfinite(c)
        zero = optax.tree.zeros_like(new)
        return optax.tree.where(finite, new, zero), jnp.where(finite, c, 0)

    def _phi_at(self, losses, step, held) -> bilevel.PhiFn:
        """Φ of one step as a function of parameters, for the penalty."""
        return functools.partial(
            bilevel.evaluate_phi,
            forget_loss=lambda theta: losses[0](theta, step),
            retain_loss=lambda theta: losses[1](theta, step),
            beta=self.beta,
            similarity=self.similarity,
            curvature=self.penalty_phi_curvature,
            lookahead_max_step=self.lookahead_max_step,
            **held,
        )

    def _penalty(self, phi_fn: bilevel.PhiFn) -> bilevel.PenaltyFn:
        """θ ↦ the penalty, exact or by differences."""
        if self.penalty == "value_gap":
            return lambda theta: bilevel.value_gap(phi_fn(theta), self.maximum)
        if self.penalty_gradient == "finite_difference":
            curvature = "finite_difference"
        else:
            curvature = self.exact_curvature
        inexact = self.penalty_phi_curvature == "finite_difference"
        return lambda theta: bilevel.gradient_norm(
            *bilevel.phi_curvature(phi_fn, theta, curvature, phi_is_difference=inexact)
        )

    def _penalty_of_last(self, phi_fn, ascent: bilevel.Ascent) -> bilevel.PenaltyFn:
        """The penalty from the last inner step, once for all outer steps: by the secant
        at θ'_T, or the value gap as it was at θ'_{T−1}, at no cost."""
        if self.secant:
            phi = phi_fn(ascent.params)
            product = bilevel.secant_product(
                phi.gradient, ascent.last_gradient, ascent.last_step
            )
            # Its retain gradient is of another batch.
            found = bilevel.gradient_norm(phi._replace(retain_gradient=None), product)
        else:
            plain = not self.similar or self.holds_shift  # ∇Φ is a forget gradient
            last = {name: values[-1] for name, values in ascent.trace.items()}
            phi = bilevel.PhiEvaluation(
                last["phi"],
                last["forget_loss"],
                jnp.full((), jnp.nan),
                last["cosine"],
                ascent.last_gradient,
                ascent.last_gradient if plain else None,
                None,
            )
            found = bilevel.value_gap(phi, self.maximum)
        return lambda theta: found

    def _descend(self, ascent, before, losses, rho, held, extra_args):
        """The outer steps from θ'_T: where they end (or, for base "outer", the sum of
        their updates), the optimizer's state, per step what was found, and the
        last g_r if one is to be carried."""
        last_step = jnp.array(self.inner_steps - 1, jnp.int32)
        last_phi = self._phi_at(losses, last_step, held)
        of_last = self.secant or self.penalty_carried
        once = self._penalty_of_last(last_phi, ascent) if of_last else None

        def descend(carry, step):
            theta, total, state, _ = carry
            phi_fn, penalty = self._phi_at(losses, step, held), None
            if self.penalised:
                penalty = once or self._penalty(phi_fn)
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
                phi = (last_phi if of_last else phi_fn)(p)
                if self.penalty == "value_gap":
                    return value + rho * bilevel.value_gap(phi, self.maximum).value
                return value + rho * bilevel.norm(phi.gradient) ** 2

            gradient = optax.tree.cast_like(outer.gradient, theta)
            search = {
                "value": outer.objective,
                "grad": gradient,
                "value_fn": objective,
            }
            change, state = self.outer_optimizer.update(
                gradient, state, theta, **(search | extra_args)
            )
            change = optax.tree.cast_like(change, theta)
            if total is not None:
                total = optax.tree.add(total, change)
            g_r = outer.retain_gradient if self.carries else ()
            theta = optax.tree.add(theta, change)
            return (theta, total, state, g_r), _record(outer)

        total = optax.tree.zeros_like(ascent.params) if self.base == "outer" else None
        steps = jnp.arange(self.outer_steps, dtype=jnp.int32) + self.inner_steps
        # What was carried is not needed any more: g_r is written over it.
        carry = (ascent.params, total, before.outer_state, before.carried)
        carry, records = bilevel.scan(descend, carry, steps, self.unroll)
        theta, total, outer_state, g_r = carry
        return (theta if total is None else total), outer_state, records, g_r


def _record(outer: bilevel.OuterEvaluation) -> dict[str, jax.Array]:
    """The metrics that an outer step finds."""
    record, phi = {"retain_loss": outer.retain_loss}, outer.phi
    if phi is None:
        return record
    cosine = phi.cosine
    # Of a direction that was held, or of none; a carried ∇Φ is no g_f.
    if phi.retain_gradient is None and phi.forget_gradient is not None:
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
