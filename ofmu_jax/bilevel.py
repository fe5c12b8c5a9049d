r"""The bi-level problem of OFMU as pure functions of parameters and two losses.

Notation (arXiv 2509.22483): ``g_f = ∇L_f`` and ``g_r = ∇L_r`` are the gradients of
the forget and the retain loss, ``c`` is their cosine, hats are unit vectors.

.. math::
  Φ(θ) = L_f(θ) − β S(c)                       \text{(inner, maximised)} \\
  F(θ) = L_r(θ) + ρ P(θ), \quad P = ‖∇Φ(θ)‖²   \text{(outer, minimised)} \\
  ∇Φ = g_f − β S'(c) (H_f u_f + H_r u_r), \quad
  u_f = (ĝ_r − c ĝ_f) / ‖g_f‖, \quad u_r = (ĝ_f − c ĝ_r) / ‖g_r‖ \\
  ∇F = g_r + 2ρ ∇²Φ ∇Φ

In place of the paper's P stands :math:`(Φ^* − Φ(θ))_+` where a value gap is asked for,
with Φ* the known maximum of Φ; then :math:`∇F = g_r − ρ∇Φ`.

The functions know nothing of models or data: ``params`` is any pytree of floating
point arrays (integers in it are constants) and a loss maps it to a scalar. Norms,
inner products and cosines are taken in float32 at least, whatever the dtype of the
parameters. How ∇Φ and ∇²Φ ∇Φ are computed is in ``_derivatives``, arithmetic on trees
in ``_trees``; the outer loop around `inner_ascent` is in `ofmu_jax.transform`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import _trees, choices
from ofmu_jax._derivatives import CURVATURES as CURVATURES
from ofmu_jax._derivatives import LOOKAHEAD_MAX_STEP as LOOKAHEAD_MAX_STEP
from ofmu_jax._derivatives import SIMILARITIES as SIMILARITIES
from ofmu_jax._derivatives import Lookahead as Lookahead
from ofmu_jax._derivatives import PhiEvaluation as PhiEvaluation
from ofmu_jax._derivatives import PhiFn as PhiFn
from ofmu_jax._derivatives import evaluate_phi as evaluate_phi
from ofmu_jax._derivatives import look_ahead as look_ahead
from ofmu_jax._derivatives import phi_curvature as phi_curvature
from ofmu_jax._derivatives import similarity_and_slope
from ofmu_jax._optimizers import Optimizer, optimizer_of
from ofmu_jax._penalties import PENALTIES as PENALTIES
from ofmu_jax._penalties import AdaptiveRho as AdaptiveRho
from ofmu_jax._penalties import OuterEvaluation as OuterEvaluation
from ofmu_jax._penalties import Penalty as Penalty
from ofmu_jax._penalties import PenaltyFn as PenaltyFn
from ofmu_jax._penalties import evaluate_outer as evaluate_outer
from ofmu_jax._penalties import gradient_norm as gradient_norm
from ofmu_jax._penalties import maximum_for as maximum_for
from ofmu_jax._penalties import value_gap as value_gap
from ofmu_jax._trees import LossFn as LossFn
from ofmu_jax._trees import Params as Params
from ofmu_jax._trees import check_choice as check_choice
from ofmu_jax._trees import clip_to as clip_to
from ofmu_jax._trees import cosine as cosine
from ofmu_jax._trees import inner_product as inner_product
from ofmu_jax._trees import is_static_zero as is_static_zero
from ofmu_jax._trees import norm as norm
from ofmu_jax._trees import scan as scan
from ofmu_jax._trees import secant_product as secant_product
from ofmu_jax._trees import unit as unit
from ofmu_jax._trees import widen as widen

StepLossFn = Callable[[Params, jax.Array], jax.Array]  # (parameters, step) -> scalar
RETAIN_DIRECTIONS = get_args(choices.RetainDirection)


class Ascent(NamedTuple):
    """Result of `inner_ascent`. ``trace`` fields have shape (T,)."""

    params: Params  # θ'_T
    optimizer_state: optax.OptState
    trace: dict[str, jax.Array]  # phi, forget_loss, cosine, phi_grad_norm, moved
    last_gradient: Params | None  # ∇Φ(θ'_{T−1}), if asked for
    last_step: Params | None  # θ'_T − θ'_{T−1}, if asked for


# --- Φ and ∇Φ ---------------------------------------------------------------------


def inner_objective(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    similarity: choices.Similarity = "cosine",
) -> jax.Array:
    """Φ(θ) = L_f(θ) − β S(c), a scalar (arXiv 2509.22483, inner problem)."""
    theta, forget_loss, retain_loss = _prepare(params, forget_loss, retain_loss)
    l_f, g_f = jax.value_and_grad(forget_loss)(theta)
    s, _ = similarity_and_slope(cosine(g_f, jax.grad(retain_loss)(theta)), similarity)
    return l_f - beta * s


def inner_gradient(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    similarity: choices.Similarity = "cosine",
    curvature: choices.Curvature = "vjp",
) -> Params:
    """∇Φ(θ), like ``params`` in structure and dtype; arguments of `evaluate_phi`.

    >>> forget = lambda x: jnp.sum(x**2)
    >>> retain = lambda x: jnp.sum(x * jnp.array([1.0, 0.0]))
    >>> print(inner_gradient(jnp.array([0.0, 2.0]), forget, retain, beta=1.0))
    [-0.5  4. ]
    """
    theta, *losses = _prepare(params, forget_loss, retain_loss)
    options = {"beta": beta, "similarity": similarity, "curvature": curvature}
    return _trees.like(params, evaluate_phi(theta, *losses, **options).gradient)


# --- F and ∇F ---------------------------------------------------------------------


def outer_objective(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    rho: float | jax.Array,
    similarity: choices.Similarity = "cosine",
    penalty: choices.Penalty = "gradient_norm",
    maximum: float | jax.Array | None = None,
) -> jax.Array:
    """F(θ), a scalar (arXiv 2509.22483, outer problem); see `outer_gradient`."""
    highest = maximum_for(penalty, maximum)
    theta, *losses = _prepare(params, forget_loss, retain_loss)
    options = {"beta": beta, "similarity": similarity}
    if penalty == "value_gap":
        gap = highest - inner_objective(theta, *losses, **options)
        return losses[1](theta) + rho * jnp.maximum(gap, 0)
    gradient = evaluate_phi(theta, *losses, **options).gradient
    return losses[1](theta) + rho * optax.tree.norm(widen(gradient), squared=True)


def outer_gradient(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    rho: float | jax.Array,
    similarity: choices.Similarity = "cosine",
    curvature: choices.Curvature = "vjp",
    penalty: choices.Penalty = "gradient_norm",
    maximum: float | jax.Array | None = None,
) -> Params:
    """∇F(θ), like ``params`` in structure and dtype.

    Args:
      penalty: ``"gradient_norm"``, the paper's ‖∇Φ‖², or ``"value_gap"``, (Φ* − Φ)₊.
      maximum: Φ*, what Φ cannot exceed; for the value gap.
      beta, similarity, curvature: see `evaluate_phi`.

    Raises:
      ValueError: for an unknown choice, or a value gap without its maximum.

    >>> loss = lambda x: -jnp.sum((x - 3.0) ** 2)  # its maximum is 0
    >>> gap = {"penalty": "value_gap", "maximum": 0.0}
    >>> x = jnp.array([1.0])
    >>> print(outer_gradient(x, loss, jnp.sum, beta=0.0, rho=0.5, **gap))  # 1 − .5 · 4
    [-1.]
    """
    check_choice("curvature", curvature, CURVATURES)
    highest = maximum_for(penalty, maximum)
    theta, forget_loss, retain_loss = _prepare(params, forget_loss, retain_loss)
    phi_fn = functools.partial(
        evaluate_phi,
        forget_loss=forget_loss,
        retain_loss=retain_loss,
        beta=beta,
        similarity=similarity,
        curvature=curvature,
    )
    how = "vjp" if curvature == "lookahead" else curvature
    noisy = {"phi_is_difference": how == "finite_difference"}

    def penalty_fn(p: Params) -> Penalty:
        if penalty == "value_gap":
            return value_gap(phi_fn(p), highest)
        return gradient_norm(*phi_curvature(phi_fn, p, how, **noisy))

    return _trees.like(
        params, evaluate_outer(theta, retain_loss, penalty_fn, rho=rho).gradient
    )


# --- the inner loop ---------------------------------------------------------------


def inner_ascent(
    params: Params,
    forget_loss: StepLossFn,
    retain_loss: StepLossFn,
    *,
    inner_optimizer: Optimizer,
    inner_steps: int,
    beta: float | jax.Array,
    optimizer_state: optax.OptState | None = None,
    similarity: choices.Similarity = "cosine",
    curvature: choices.Curvature = "vjp",
    retain_direction: Params | None = None,
    lookahead: Lookahead | None = None,
    lookahead_max_step: float | jax.Array = LOOKAHEAD_MAX_STEP,
    forget_target: float | jax.Array | None = None,
    keep_gradient: bool = False,
    keep_step: bool = False,
    unroll: bool = False,
) -> Ascent:
    """T steps of ascent on Φ, one `lax.scan`: θ' ← θ' + inner_optimizer(∇Φ(θ')).

    The ascent rests (parameters and optimizer state stay) from where L_f or ∇Φ is not
    finite: the parameters are, made of good values. It rests too where L_f has reached
    ``forget_target``. The trace says where it ``moved``.

    Args:
      params: where the ascent starts.
      forget_loss: ``(parameters, step) -> scalar`` with step = 0 … T−1, traced.
      retain_loss: likewise.
      inner_optimizer: of optax, or a rate; it is given −∇Φ, so it ascends (and −Φ as
        ``value`` and ``value_fn``, ``held`` what of it is constant, for line searches).
      inner_steps: T, a Python integer.
      optimizer_state: of the inner optimizer; None starts a new one.
      forget_target: the loss that counts as forgotten; −CE has no maximum of its own.
      keep_gradient, keep_step: also return ∇Φ(θ'_{T−1}) and the last step.
      unroll: write the steps out in the program, which then has no loop.
      beta, similarity, curvature, retain_direction, lookahead, lookahead_max_step: see
        `evaluate_phi`.
    """
    theta, forget_loss, retain_loss = _prepare(params, forget_loss, retain_loss)
    optimizer = optimizer_of("inner_optimizer", inner_optimizer)
    state = optimizer.init(theta) if optimizer_state is None else optimizer_state
    zeros = optax.tree.zeros_like(theta)
    blank = (zeros if keep_gradient else None, zeros if keep_step else None)

    def ascend(carry, step):
        theta, state, _, _ = carry
        phi_fn = functools.partial(
            evaluate_phi,
            forget_loss=lambda p: forget_loss(p, step),
            retain_loss=lambda p: retain_loss(p, step),
            beta=beta,
            similarity=similarity,
            curvature=curvature,
            retain_direction=retain_direction,
            lookahead=lookahead,
            lookahead_max_step=lookahead_max_step,
        )
        phi = phi_fn(theta)
        phi_grad_norm = norm(phi.gradient)
        moves = jnp.isfinite(phi.forget_loss) & jnp.isfinite(phi_grad_norm)
        if forget_target is not None:
            moves &= phi.forget_loss < forget_target
        downhill = optax.tree.cast_like(optax.tree.scale(-1, phi.gradient), theta)
        updates, new_state = optimizer.update(
            downhill,
            state,
            theta,
            value=-phi.phi,
            grad=downhill,
            value_fn=lambda p, held=0.0: -phi_fn(p).phi,  # Optax hands held on
            held=0.0 if lookahead is None else phi.forget_loss - phi.phi,
        )
        new = (optax.apply_updates(theta, updates), new_state)
        new_theta, new_state = optax.tree.where(moves, new, (theta, state))
        last = (
            optax.tree.cast_like(phi.gradient, theta) if keep_gradient else None,
            optax.tree.sub(new_theta, theta) if keep_step else None,
        )
        record = {
            "phi": phi.phi,
            "forget_loss": phi.forget_loss,
            "cosine": phi.cosine,
            "phi_grad_norm": phi_grad_norm,
            "moved": moves,
        }
        return (new_theta, new_state, *last), record

    steps = jnp.arange(inner_steps, dtype=jnp.int32)
    carry, trace = scan(ascend, (theta, state, *blank), steps, unroll)
    theta, state, gradient, step = carry
    return Ascent(_trees.complete(theta, params), state, trace, gradient, step)


def _prepare(params: Params, *losses: Callable[..., Any]):
    """θ without its constants, and the losses as functions of that."""
    names = ("forget_loss", "retain_loss")
    wrap = lambda loss: lambda p, *step: loss(_trees.complete(p, params), *step)
    checked = (
        _trees.scalar(name, wrap(loss))
        for name, loss in zip(names, losses, strict=True)
    )
    return _trees.differentiable(params), *checked
