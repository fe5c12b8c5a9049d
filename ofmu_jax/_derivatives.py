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
    forget_gradient: Params | None  # g_f; None where only ∇Φ was kept
    retain_gradient: Params | None  # g_r; None if it was not needed


class Lookahead(NamedTuple):
    """Where the forget gradient is taken in place of a Hessian product."""

    shift: Params  # −β S'(c) u_f, cut to a longest length
    cosine: jax.Array  # the c it was made with; shape=()


PhiFn = Callable[[Params], PhiEvaluation]
LOOKAHEAD_MAX_STEP = 2e-3  # the longest shift, in norms of the parameters


def similarity_and_slope(
    c: jax.Array, similarity: Similarity
) -> tuple[jax.Array, jax.Array]:
    """S(c) and S'(c)."""
    check_choice("similarity", similarity, SIMILARITIES)
    return (c, jnp.ones_like(c)) if similarity == "cosine" else (c**2, 2 * c)


def evaluate_phi(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    similarity: Similarity = "cosine",
    curvature: Curvature = "vjp",
    retain_direction: Params | None = None,
    lookahead: Lookahead | None = None,
    lookahead_max_step: float | jax.Array = LOOKAHEAD_MAX_STEP,
) -> PhiEvaluation:
    """Φ, its gradient and what was found on the way.

    Args:
      forget_loss: L_f, parameters -> scalar.
      retain_loss: L_r, parameters -> scalar.
      beta: weight of the similarity; a Python 0 skips the second derivatives.
      similarity: ``"cosine"`` (the paper's) or ``"squared_cosine"``.
      curvature: how ∇²L u is computed: ``"vjp"``, ``"linearize"`` (both keep the
        first pass for the second), ``"jvp"`` (the same, computed anew: more work,
        little memory), all three exact, ``"finite_difference"`` (one-sided), or
        ``"lookahead"``: gradients at points shifted by −βS'(c)u, exact to first order
        in β; the differences that it takes are not divided by a small number.
      retain_direction: a fixed unit tree used in place of ĝ_r; then L_r is not
        evaluated and H_r not needed.
      lookahead: the shift to use, made before: ∇Φ is then one forget gradient, and
        ``curvature`` and ``retain_direction`` say nothing.
      lookahead_max_step: the longest shift of ``"lookahead"``, in norms of ``params``.
    """
    check_choice("curvature", curvature, CURVATURES)
    check_choice("similarity", similarity, SIMILARITIES)
    forget_loss = _trees.scalar("forget_loss", forget_loss)
    nan = jnp.full((), jnp.nan)
    if is_static_zero(beta):
        value, gradient = jax.value_and_grad(forget_loss)(params)
        gradient = widen(gradient)
        return PhiEvaluation(value, value, nan, nan, gradient, gradient, None)
    if lookahead is not None:
        ahead = optax.tree.add(params, lookahead.shift)
        value, gradient = jax.value_and_grad(forget_loss)(ahead)
        s, _ = similarity_and_slope(lookahead.cosine, similarity)
        gradient = widen(gradient)
        return PhiEvaluation(
            value - beta * s, value, nan, nan, gradient, gradient, None
        )

    if curvature == "lookahead":
        cut = lambda u: _trees.clip_to(u, lookahead_max_step * norm(params))
    else:
        cut = lambda u: u
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

    weight = -beta * slope
    u_f = _turned(unit_f, unit_r, c, weight * inverse_f)
    gradient = optax.tree.add(g_f, product_f(cut(u_f)))
    if retain_side is not None:
        product_r, inverse_r = retain_side
        u_r = _turned(unit_r, unit_f, c, weight * inverse_r)
        gradient = optax.tree.add(gradient, product_r(cut(u_r)))
    return PhiEvaluation(l_f - beta * s, l_f, l_r, c, gradient, g_f, g_r)


def _turned(unit_a: Params, unit_b: Params, c: jax.Array, scale: jax.Array) -> Params:
    """``scale`` (b̂ − c â): how the cosine of a and b turns with a."""
    return optax.tree.scale(scale, optax.tree.add_scale(unit_b, -c, unit_a))


def look_ahead(
    params: Params,
    forget_gradient: Params,
    retain_gradient: Params,
    *,
    beta: float | jax.Array,
    similarity: Similarity = "cosine",
    max_step: float | jax.Array = LOOKAHEAD_MAX_STEP,
) -> Lookahead:
    """The shift −βS'(c)u_f of these gradients, at most ``max_step`` ‖θ‖ long.

    With ĝ_r held, ∇Φ(θ) = g_f − βS'(c) H_f u_f = g_f(θ − βS'(c) u_f) + O(β²).
    """
    c = _trees.cosine(forget_gradient, retain_gradient)
    _, slope = similarity_and_slope(c, similarity)
    # u_f as a sum of the gradients: no other tree is held, and its length is known.
    inverse_f, inverse_r = unit(forget_gradient)[1], unit(retain_gradient)[1]
    sine = jnp.sqrt(jnp.maximum(1 - c**2, jnp.finfo(c.dtype).tiny))
    longest = max_step * norm(params) / sine
    weight = -jnp.clip(beta * slope * inverse_f, -longest, longest)
    towards = optax.tree.scale(weight * inverse_r, retain_gradient)
    away = -weight * c * inverse_f
    return Lookahead(optax.tree.add_scale(towards, away, forget_gradient), c)


def _gradient_and_product(loss: LossFn, params: Params, curvature: Curvature):
    """Loss, gradient and the map u ↦ ∇²L u, which shares the primal pass."""

    def gradient_fn(theta):
        value, gradient = jax.value_and_grad(loss)(theta)
        return gradient, value

    gradient, value, product = _with_product(gradient_fn, params, curvature)
    return value, widen(gradient), lambda u: widen(product(u))


def _with_product(gradient_fn: Callable, params: Params, curvature: Curvature, order=1):
    """What ``gradient_fn`` gives, (∇f, more), and the map u ↦ ∇²f u.

    With ``"lookahead"`` that is u ↦ ∇f(θ + u) − ∇f(θ), linear for short u only.
    ``order`` is that of `_trees.finite_difference`.
    """
    if curvature == "finite_difference":
        gradient_fn = _precise(gradient_fn)
        params = widen(params)  # bfloat16 would round the displacement away
        gradient, more = gradient_fn(params)
        only_gradient = lambda theta: gradient_fn(theta)[0]
        displaced = functools.partial(_trees.finite_difference, only_gradient)
        return gradient, more, lambda u: displaced(params, gradient, u, order=order)
    if curvature == "lookahead":
        params = widen(params)
        gradient, more = gradient_fn(params)
        ahead = lambda u: gradient_fn(optax.tree.add(params, u))[0]
        return gradient, more, lambda u: optax.tree.sub(ahead(u), gradient)
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
    phi: PhiFn, params: Params, curvature: Curvature, *, phi_is_difference: bool = False
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
