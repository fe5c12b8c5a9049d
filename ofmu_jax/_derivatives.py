r"""∇Φ, ∇²Φ ∇Φ and ∇F, with everything that is found on the way.

The formulas are in `ofmu_jax.bilevel`. Trees in results are float32 or wider.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import _trees
from ofmu_jax._trees import (
    LossFn,
    Params,
    check_choice,
    is_static_zero,
    norm,
    unit,
    widen,
)
from ofmu_jax.choices import Curvature, Similarity

SIMILARITIES = get_args(Similarity)
CURVATURES = get_args(Curvature)


class PhiEvaluation(NamedTuple):
    """What one evaluation of ∇Φ yields; trees are float32 or wider."""

    phi: jax.Array  # Φ(θ); shape=()
    forget_loss: jax.Array  # L_f(θ); shape=()
    retain_loss: jax.Array  # L_r(θ), NaN where it was not needed; shape=()
    cosine: jax.Array  # c, NaN where it was not needed; shape=()
    gradient: Params  # ∇Φ(θ)
    forget_gradient: Params  # g_f
    retain_gradient: Params | None  # g_r; None if it was not needed


class OuterEvaluation(NamedTuple):
    """What one evaluation of ∇F yields; trees are float32 or wider."""

    gradient: Params  # ∇F(θ), its penalty clipped if that was asked for
    retain_loss: jax.Array  # L_r(θ); shape=()
    retain_gradient: Params  # g_r
    phi: PhiEvaluation | None  # None without a penalty


PhiFn = Callable[[Params], PhiEvaluation]
CurvatureFn = Callable[[Params], tuple[PhiEvaluation, Params]]  # Φ and ∇²Φ ∇Φ


def similarity_and_slope(c: jax.Array, similarity: str) -> tuple[jax.Array, jax.Array]:
    """S(c) and S'(c)."""
    check_choice("similarity", similarity, SIMILARITIES)
    return (c, jnp.ones_like(c)) if similarity == "cosine" else (c**2, 2 * c)


def evaluate_phi(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    similarity: str = "cosine",
    curvature: str = "vjp",
    retain_direction: Params | None = None,
) -> PhiEvaluation:
    """Φ, its gradient and what was found on the way.

    Args:
      forget_loss: L_f, parameters -> scalar.
      retain_loss: L_r, parameters -> scalar.
      beta: weight of the similarity; a Python 0 skips the second derivatives.
      similarity: ``"cosine"`` (the paper's) or ``"squared_cosine"``.
      curvature: how ∇²L u is computed: ``"vjp"``, ``"linearize"`` (both keep the
        first pass for the second), ``"jvp"`` (the same, computed anew: more work,
        little memory), all three exact, or ``"finite_difference"`` (one-sided).
      retain_direction: a fixed unit tree used in place of ĝ_r; then L_r is not
        evaluated and H_r not needed.
    """
    check_choice("curvature", curvature, CURVATURES)
    check_choice("similarity", similarity, SIMILARITIES)
    forget_loss = _trees.scalar("forget_loss", forget_loss)
    nan = jnp.full((), jnp.nan)
    if is_static_zero(beta):
        value, gradient = jax.value_and_grad(forget_loss)(params)
        gradient = widen(gradient)
        return PhiEvaluation(value, value, nan, nan, gradient, gradient, None)

    l_f, g_f, product_f = _gradient_and_product(forget_loss, params, curvature)
    unit_f, inverse_f = unit(g_f)
    l_r, g_r, unit_r, retain_side = nan, None, retain_direction, None
    if retain_direction is None:
        retain_loss = _trees.scalar("retain_loss", retain_loss)
        l_r, g_r, product_r = _gradient_and_product(retain_loss, params, curvature)
        unit_r, inverse_r = unit(g_r)
        retain_side = (product_r, inverse_r)
    c = _trees.inner_product(unit_f, unit_r)
    s, slope = similarity_and_slope(c, similarity)

    towards = optax.tree.add_scale
    u_f = optax.tree.scale(inverse_f, towards(unit_r, -c, unit_f))
    bend = product_f(u_f)
    if retain_side is not None:
        product_r, inverse_r = retain_side
        u_r = optax.tree.scale(inverse_r, towards(unit_f, -c, unit_r))
        bend = optax.tree.add(bend, product_r(u_r))
    gradient = towards(g_f, -beta * slope, bend)
    return PhiEvaluation(l_f - beta * s, l_f, l_r, c, gradient, g_f, g_r)


def _gradient_and_product(loss: LossFn, params: Params, curvature: str):
    """Loss, gradient and the map u ↦ ∇²L u, which shares the primal pass."""

    def gradient_fn(theta):
        value, gradient = jax.value_and_grad(loss)(theta)
        return gradient, value

    gradient, value, product = _with_product(gradient_fn, params, curvature)
    return value, widen(gradient), lambda u: widen(product(u))


def _with_product(gradient_fn: Callable, params: Params, curvature: str, order=1):
    """What ``gradient_fn`` gives, (∇f, more), and the map u ↦ ∇²f u.

    ``order`` is that of `_trees.finite_difference`.
    """
    if curvature == "finite_difference":
        gradient_fn = _precise(gradient_fn)
        params = widen(params)  # bfloat16 would round the displacement away
        gradient, more = gradient_fn(params)
        only_gradient = lambda theta: gradient_fn(theta)[0]
        displaced = functools.partial(_trees.finite_difference, only_gradient)
        return gradient, more, lambda u: displaced(params, gradient, u, order=order)
    if curvature == "vjp":
        # Hessians are symmetric: the pull-back of u through ∇f is ∇²f u.
        gradient, pull, more = jax.vjp(gradient_fn, params, has_aux=True)
        product = lambda u: pull(u)[0]
    elif curvature == "jvp":
        gradient, more = gradient_fn(params)
        product = functools.partial(_product_anew, gradient_fn, params)
    else:
        gradient, product, more = jax.linearize(gradient_fn, params, has_aux=True)
    return gradient, more, lambda u: product(optax.tree.cast_like(u, gradient))


def _precise(function: Callable) -> Callable:
    """The same with float32 products in full: an accelerator's default, TF32 or
    bfloat16, rounds off more than a small step changes."""

    @functools.wraps(function)
    def precise(*args):
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return precise


def _product_anew(gradient_fn: Callable, params: Params, u: Params) -> Params:
    """∂(gradient_fn) u, which starts once ``u`` is known and keeps nothing till then.

    Without the barrier XLA would merge its first pass with that of the gradient.
    """
    params, u = jax.lax.optimization_barrier((params, u))
    return jax.jvp(lambda theta: gradient_fn(theta)[0], (params,), (u,))[1]


def phi_curvature(
    phi: PhiFn, params: Params, curvature: str, *, phi_is_difference: bool = False
) -> tuple[PhiEvaluation, Params]:
    """∇Φ and ∇²Φ ∇Φ at ``params``; ``vjp`` and ``linearize`` share a primal pass.

    ``phi_is_difference`` says that ``phi`` itself uses finite differences.
    """

    def gradient_fn(theta):
        evaluation = phi(theta)
        return optax.tree.cast_like(evaluation.gradient, theta), evaluation

    order = 2 if phi_is_difference else 1
    gradient, evaluation, product = _with_product(gradient_fn, params, curvature, order)
    return evaluation, widen(product(gradient))


def evaluate_outer(
    params: Params,
    retain_loss: LossFn,
    curvature_fn: CurvatureFn | None,
    *,
    rho: float | jax.Array,
    penalty_clip: float | jax.Array | None = None,
) -> OuterEvaluation:
    """∇F = ∇L_r + 2ρ ∇²Φ ∇Φ and what was found on the way.

    Args:
      retain_loss: L_r, parameters -> scalar.
      curvature_fn: gives Φ and ∇²Φ ∇Φ at θ, as `phi_curvature` does; None: no penalty.
        If its Φ has no retain gradient, L_r is differentiated here.
      rho: ρ.
      penalty_clip: the penalty's norm is at most this multiple of ‖∇L_r‖.
    """
    phi, product = (None, None) if curvature_fn is None else curvature_fn(params)
    if phi is not None and phi.retain_gradient is not None:
        l_r, g_r = phi.retain_loss, phi.retain_gradient
    else:
        retain_loss = _trees.scalar("retain_loss", retain_loss)
        l_r, g_r = jax.value_and_grad(retain_loss)(params)
        g_r = widen(g_r)
    gradient = g_r
    if product is not None:
        penalty = optax.tree.scale(2 * rho, product)
        if penalty_clip is not None:
            penalty = _trees.clip_to(penalty, penalty_clip * norm(g_r))
        gradient = optax.tree.add(g_r, penalty)
    return OuterEvaluation(gradient, l_r, g_r, phi)
