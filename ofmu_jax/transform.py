r"""OFMU as an optax transform: one call of ``update`` is one outer iteration."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import bilevel
from ofmu_jax.bilevel import Params, StepLossFn

BASES = ("inner", "outer")
PENALTY_GRADIENTS = ("exact", "finite_difference", "secant")


class OfmuState(NamedTuple):
    """State of `ofmu`; the scalars describe the last outer iteration at θ'_T."""

    outer_iteration: jax.Array  # shape=(), dtype=int32
    inner_state: optax.OptState  # of the inner optimizer, carried over
    outer_state: optax.OptState  # of the outer optimizer
    phi: jax.Array  # Φ; shape=(), dtype=float32
    forget_loss: jax.Array  # L_f; shape=(), dtype=float32
    retain_loss: jax.Array  # L_r; shape=(), dtype=float32
    cosine: jax.Array  # of ∇L_f and ∇L_r; shape=(), dtype=float32
    phi_grad_norm: jax.Array  # ‖∇Φ‖; shape=(), dtype=float32
    rho: jax.Array  # the ρ it used; shape=(), dtype=float32


METRICS = ("phi", "forget_loss", "retain_loss", "cosine", "phi_grad_norm", "rho")


def ofmu(
    outer_optimizer: optax.GradientTransformation,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int = 5,
    beta: float | jax.Array = 0.1,
    rho: float | jax.Array | optax.Schedule = 1e-3,
    similarity: str = "cosine",
    base: str = "inner",
    curvature: str = "vjp",
    outer_steps: int = 1,
    retain_direction: str = "fresh",
    penalty_gradient: str = "exact",
    penalty_clip: float | jax.Array | None = None,
    forget_target: float | jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""The two loops of OFMU (arXiv 2509.22483) around two optax optimizers.

    One update takes T = ``inner_steps`` steps of ascent on
    :math:`Φ = L_f − β S(c)` and then ``outer_steps`` steps of descent along
    :math:`∇L_r(θ'_T) + 2 ρ_k ∇²Φ ∇Φ`; the returned update is their sum. ``update``
    needs ``forget_loss`` and ``retain_loss``, called as ``loss(params, step)`` with
    a traced integer ``step``: 0 … T−1 in the inner loop, T + j in outer step
    j = 0 … ``outer_steps`` − 1, so that a caller can index stacked minibatches
    (or ignore it). The ``grads`` argument is not used and may be None.

    Args:
      outer_optimizer: descends F; any optax optimizer.
      inner_optimizer: ascends Φ; its state is carried from one update to the next.
      inner_steps: T.
      beta: weight β of the similarity; a Python 0 drops the term and its cost.
      rho: penalty weight ρ, or a schedule of the outer iteration k (the paper's
        :math:`ρ_{k+1} = γ ρ_k` is ``optax.exponential_decay(rho_0, 1, gamma)``).
        A Python 0 drops the penalty and its cost.
      similarity: ``"cosine"`` (the paper's) or ``"squared_cosine"``.
      base: ``"inner"`` descends from θ'_T, the warm start; ``"outer"`` applies the
        same outer updates at θ_k, as equation θ_{k+1} = θ_k − … reads.
      curvature: of ∇Φ: ``"vjp"``, ``"linearize"`` or ``"finite_difference"``.
      outer_steps: outer steps per inner loop.
      retain_direction: ``"fresh"`` recomputes ĝ_r in each inner step; ``"frozen"``
        takes it once per update, at θ_k on the batch of step 0.
      penalty_gradient: ``"exact"`` third derivatives; ``"finite_difference"`` of ∇Φ
        along ∇Φ; ``"secant"`` from the last inner step (see
        `bilevel.secant_product`), computed once and shared by the outer steps.
      penalty_clip: the penalty's norm is at most this multiple of ‖∇L_r‖.
      forget_target: inner steps rest while L_f is at or above it.

    Returns:
      A transform whose state shows Φ, L_f, L_r, the cosine, ‖∇Φ‖ and ρ of the last
      update (`OfmuState`). With a Python ``rho=0`` they come from the last inner
      step, except L_r. Bfloat16 parameters are iterated in float32 and only the
      update is cast back; the losses see bfloat16 unless differences of gradients
      are asked for, which it would round away.

    Raises:
      ValueError: for an unknown option, a count that is not a Python integer or
        too small, or (in ``update``) a missing ``params`` or loss.

    >>> import jax.numpy as jnp
    >>> tx = ofmu(optax.sgd(0.1), optax.sgd(0.1), inner_steps=1, beta=0.0, rho=0.0)
    >>> theta = jnp.array([1.0])
    >>> updates, state = tx.update(
    ...     None, tx.init(theta), theta,
    ...     forget_loss=lambda p, step: 3.0 * p.sum(),
    ...     retain_loss=lambda p, step: 0.5 * (p**2).sum(),
    ... )
    >>> print(updates.round(4))  # + 0.1 * 3, then − 0.1 * 1.3
    [0.17]
    """
    _check_count("inner_steps", inner_steps, least=0)
    _check_count("outer_steps", outer_steps, least=1)
    bilevel.check_choice("similarity", similarity, bilevel.SIMILARITIES)
    bilevel.check_choice("curvature", curvature, bilevel.CURVATURES)
    directions = bilevel.RETAIN_DIRECTIONS
    bilevel.check_choice("retain_direction", retain_direction, directions)
    bilevel.check_choice("base", base, BASES)
    bilevel.check_choice("penalty_gradient", penalty_gradient, PENALTY_GRADIENTS)
    penalised = not bilevel.is_static_zero(rho)
    secant = penalised and penalty_gradient == "secant"
    if inner_steps == 0 and (secant or not penalised):
        raise ValueError(
            "inner_steps=0 leaves no inner step to take the secant or the metrics "
            "from; use inner_steps >= 1, or a penalty with another gradient."
        )
    differences = curvature == "finite_difference" or (
        penalised and penalty_gradient != "exact"
    )
    if penalty_gradient == "finite_difference":
        penalty_curvature = "finite_difference"
    else:
        penalty_curvature = "linearize" if curvature == "linearize" else "vjp"
    outer_optimizer = optax.with_extra_args_support(outer_optimizer)
    evaluate = functools.partial(bilevel.evaluate_phi, beta=beta, similarity=similarity)
    # Exact third derivatives go through exact second ones.
    exact = "vjp" if curvature == "finite_difference" else curvature
    phi_curvature = exact if penalty_gradient == "exact" else curvature

    def init_fn(params: Params) -> OfmuState:
        wide = bilevel.widen(params)
        return OfmuState(
            jnp.zeros((), jnp.int32),
            inner_optimizer.init(wide),
            outer_optimizer.init(wide),
            *(jnp.zeros((), jnp.float32) for _ in METRICS),
        )

    def update_fn(
        updates: Params,
        state: Any,  # OfmuState
        params: Params | None = None,
        *,
        forget_loss: StepLossFn | None = None,
        retain_loss: StepLossFn | None = None,
        **extra_args: Any,
    ) -> tuple[Any, OfmuState]:
        del updates  # the retain gradient counts at θ'_T, not at θ_k
        if params is None or forget_loss is None or retain_loss is None:
            raise ValueError(
                "ofmu needs params and both losses: call tx.update(grads, state, "
                "params, forget_loss=..., retain_loss=...), loss(params, step)."
            )
        start = bilevel.widen(params)
        l_f, l_r = (
            loss if differences else _at_dtype_of(params, loss)
            for loss in (forget_loss, retain_loss)
        )
        rho_k = rho(state.outer_iteration) if callable(rho) else rho

        direction = None
        if retain_direction == "frozen" and not bilevel.is_static_zero(beta):
            direction = bilevel.unit(jax.grad(l_r)(start, jnp.zeros((), jnp.int32)))[0]

        ascent = bilevel.inner_ascent(
            start,
            l_f,
            l_r,
            inner_optimizer=inner_optimizer,
            inner_steps=inner_steps,
            beta=beta,
            optimizer_state=state.inner_state,
            similarity=similarity,
            curvature=curvature,
            retain_direction=direction,
            forget_target=forget_target,
            keep_last=secant,
        )

        def phi_at(step):
            return functools.partial(
                evaluate,
                forget_loss=lambda theta: l_f(theta, step),
                retain_loss=lambda theta: l_r(theta, step),
                curvature=phi_curvature,
                retain_direction=direction,
            )

        shared_penalty = shared_phi = None
        if secant:
            shared_phi = phi_at(jnp.array(inner_steps - 1, jnp.int32))(ascent.params)
            shared_penalty = bilevel.secant_product(
                shared_phi.gradient, ascent.last_gradient, ascent.last_step
            )

        def descend(carry, step):
            theta, total, outer_state = carry
            phi, product = shared_phi, shared_penalty
            if penalised and not secant:
                phi, product = bilevel.phi_curvature(
                    phi_at(step),
                    theta,
                    penalty_curvature,
                    phi_is_difference=phi_curvature == "finite_difference",
                )
            if phi is None or secant or phi.retain_gradient is None:
                loss, g_r = jax.value_and_grad(l_r)(theta, step)
                g_r = bilevel.widen(g_r)
            else:
                loss, g_r = phi.retain_loss, phi.retain_gradient
            gradient = g_r
            if penalised:
                penalty = optax.tree.scale(2 * rho_k, product)
                if penalty_clip is not None:
                    limit = penalty_clip * bilevel.norm(g_r)
                    penalty = bilevel.clip_to(penalty, limit)
                gradient = optax.tree.add(g_r, penalty)
            gradient = optax.tree.cast_like(gradient, theta)
            change, outer_state = outer_optimizer.update(
                gradient, outer_state, theta, **extra_args
            )
            change = optax.tree.cast_like(change, theta)
            record = {"retain_loss": loss}
            if phi is not None:
                record |= _record(phi, g_r)
            theta = optax.tree.add(theta, change)
            return (theta, optax.tree.add(total, change), outer_state), record

        steps = inner_steps + jnp.arange(outer_steps)
        carry = (ascent.params, optax.tree.zeros_like(start), state.outer_state)
        (theta, total, outer_state), records = jax.lax.scan(descend, carry, steps)

        change = total if base == "outer" else optax.tree.sub(theta, start)
        metrics = (
            {name: values[-1] for name, values in ascent.trace.items()}
            if (inner_steps > 0)
            else {}
        )
        metrics |= {name: values[0] for name, values in records.items()}
        metrics["rho"] = jnp.asarray(rho_k)
        return optax.tree.cast_like(change, params), OfmuState(
            jnp.asarray(optax.safe_increment(state.outer_iteration)),
            ascent.optimizer_state,
            outer_state,
            **{name: jnp.asarray(metrics[name], jnp.float32) for name in METRICS},
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def fill_masked(params: Params, full: Params) -> Params:
    """Puts the leaves of ``full`` where ``params`` holds an `optax.MaskedNode`.

    Under `optax.masked` or `optax.partition` a transform sees masked parameters, and
    so would the losses: ``forget_loss=lambda p, i: loss(fill_masked(p, params), i)``.
    """
    hidden = lambda x: isinstance(x, optax.MaskedNode)
    return jax.tree.map(
        lambda part, whole: whole if hidden(part) else part,
        params,
        full,
        is_leaf=hidden,
    )


def _record(phi: bilevel.PhiEvaluation, g_r: Params) -> dict[str, jax.Array]:
    return {
        "phi": phi.phi,
        "forget_loss": phi.forget_loss,
        "cosine": bilevel.cosine(phi.forget_gradient, g_r),
        "phi_grad_norm": bilevel.norm(phi.gradient),
    }


def _at_dtype_of(params: Params, loss: StepLossFn) -> StepLossFn:
    return lambda wide, step: loss(optax.tree.cast_like(wide, params), step)


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(
            f"{name} must be a Python int, got {value!r}; under "
            "optax.inject_hyperparams pass static_args=('inner_steps', 'outer_steps')."
        )
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
