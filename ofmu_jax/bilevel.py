r"""The bi-level problem of OFMU as pure functions of parameters and two losses.

Notation (arXiv 2509.22483): ``g_f = ∇L_f`` and ``g_r = ∇L_r`` are the gradients of
the forget and the retain loss, ``c`` is their cosine, hats are unit vectors.

.. math::
  Φ(θ) = L_f(θ) − β S(c)                       \text{(inner, maximised)} \\
  F(θ) = L_r(θ) + ρ ‖∇Φ(θ)‖²                   \text{(outer, minimised)} \\
  ∇Φ = g_f − β S'(c) (H_f u_f + H_r u_r), \quad
  u_f = (ĝ_r − c ĝ_f) / ‖g_f‖, \quad u_r = (ĝ_f − c ĝ_r) / ‖g_r‖ \\
  ∇F = g_r + 2ρ ∇²Φ ∇Φ

The functions know nothing of models or data: ``params`` is any pytree of floating
point arrays and a loss maps it to a scalar. Norms, inner products and cosines are
taken in float32 at least, whatever the dtype of the parameters.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any  # a pytree of floating point arrays
LossFn = Callable[[Params], jax.Array]  # parameters -> scalar
StepLossFn = Callable[[Params, jax.Array], jax.Array]  # (parameters, step) -> scalar

SIMILARITIES = ("cosine", "squared_cosine")
CURVATURES = ("vjp", "linearize", "finite_difference")
RETAIN_DIRECTIONS = ("fresh", "frozen")


class PhiEvaluation(NamedTuple):
    """What one evaluation of ∇Φ yields; trees are float32 or wider."""

    phi: jax.Array  # Φ(θ); shape=()
    forget_loss: jax.Array  # L_f(θ); shape=()
    retain_loss: jax.Array  # L_r(θ), NaN where it was not needed; shape=()
    cosine: jax.Array  # c, NaN where it was not needed; shape=()
    gradient: Params  # ∇Φ(θ)
    forget_gradient: Params  # g_f
    retain_gradient: Params | None  # g_r; None if it was not needed


class Ascent(NamedTuple):
    """Result of `inner_ascent`. ``trace`` fields have shape (T,)."""

    params: Params  # θ'_T
    optimizer_state: optax.OptState
    trace: dict[str, jax.Array]  # phi, forget_loss, cosine, phi_grad_norm per step
    last_gradient: Params | None  # ∇Φ(θ'_{T−1}), if asked for
    last_step: Params | None  # θ'_T − θ'_{T−1}, if asked for


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError if `value` is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {choices}.")


def is_static_zero(x: Any) -> bool:
    """True for a Python 0: the term is left out of the program altogether."""
    return isinstance(x, (int, float)) and x == 0


def widen(tree: Params) -> Params:
    """Casts leaves to float32, unless they are wider already."""
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)),
        tree,
    )


def norm(tree: Params) -> jax.Array:
    """Global Euclidean norm in float32 or wider; its gradient at 0 is 0."""
    sq = optax.tree.norm(widen(tree), squared=True)
    return jnp.where(sq > 0, jnp.sqrt(jnp.where(sq > 0, sq, 1)), 0)


def unit(tree: Params) -> tuple[Params, jax.Array]:
    """The tree divided by its norm, and 1 / norm; both 0 for the zero tree."""
    tree = widen(tree)
    length = norm(tree)
    inverse = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    return optax.tree.scale(inverse, tree), inverse


def cosine(g_f: Params, g_r: Params) -> jax.Array:
    """Cosine of the angle between two trees; 0 if one of them is 0.

    >>> import jax.numpy as jnp
    >>> print(cosine({"w": jnp.ones(4)}, {"w": -jnp.ones(4)}))
    -1.0
    """
    return jnp.asarray(optax.tree.vdot(unit(g_f)[0], unit(g_r)[0]))


def _similarity(c: jax.Array, similarity: str) -> tuple[jax.Array, jax.Array]:
    """S(c) and S'(c)."""
    check_choice("similarity", similarity, SIMILARITIES)
    return (c, jnp.ones_like(c)) if similarity == "cosine" else (c**2, 2 * c)


def _finite_difference(gradient_fn, params, gradient, direction, order=1):
    """(∇f(θ + εu) − ∇f(θ)) / ε with ‖εu‖ = eps^(1/2) (1 + ‖θ‖)^(1/2).

    With ``order=2`` the gradient is itself a difference, its noise about eps^(1/2),
    and the displacement that balances noise against curvature has eps^(1/4). In
    float32 expect errors of about a hundredth, and a third for differences of
    differences; in float64 1e-8 and 1e-4.
    """
    unit_direction, _ = unit(direction)
    eps = jnp.finfo(optax.tree.dtype(params, "lowest")).eps
    displacement = eps ** (0.5**order) * jnp.sqrt(1 + norm(params))
    moved = gradient_fn(optax.tree.add_scale(params, displacement, unit_direction))
    difference = optax.tree.sub(widen(moved), widen(gradient))
    return optax.tree.scale(norm(direction) / displacement, difference)


def _gradient_and_product(loss: LossFn, params: Params, curvature: str):
    """Loss, gradient and the map u ↦ ∇²L u, which shares the primal pass."""
    if curvature == "finite_difference":
        params = widen(params)  # bfloat16 would round the displacement away
        value, gradient = jax.value_and_grad(loss)(params)
        return (
            value,
            widen(gradient),
            lambda u: _finite_difference(jax.grad(loss), params, gradient, u),
        )
    # Hessians are symmetric: the pull-back of u through ∇L is ∇²L u.
    if curvature == "vjp":
        (value, gradient), pull = jax.vjp(jax.value_and_grad(loss), params)
        product = lambda u: pull((jnp.zeros_like(value), u))[0]
    else:
        (value, gradient), push = jax.linearize(jax.value_and_grad(loss), params)
        product = lambda u: push(u)[1]
    return (
        value,
        widen(gradient),
        lambda u: widen(product(optax.tree.cast_like(u, gradient))),
    )


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
      params: θ.
      forget_loss: L_f, parameters -> scalar.
      retain_loss: L_r, parameters -> scalar.
      beta: weight of the similarity; a Python 0 skips the second derivatives.
      similarity: ``"cosine"`` (the paper's) or ``"squared_cosine"``.
      curvature: how ∇²L u is computed: ``"vjp"``, ``"linearize"`` (both exact) or
        ``"finite_difference"`` (one-sided).
      retain_direction: a fixed unit tree used in place of ĝ_r; then L_r is not
        evaluated and H_r not needed.
    """
    check_choice("curvature", curvature, CURVATURES)
    nan = jnp.full((), jnp.nan)
    if is_static_zero(beta):
        value, gradient = jax.value_and_grad(forget_loss)(params)
        gradient = widen(gradient)
        return PhiEvaluation(value, value, nan, nan, gradient, gradient, None)

    l_f, g_f, product_f = _gradient_and_product(forget_loss, params, curvature)
    unit_f, inverse_f = unit(g_f)
    l_r, g_r, unit_r, retain_side = nan, None, retain_direction, None
    if retain_direction is None:
        l_r, g_r, product_r = _gradient_and_product(retain_loss, params, curvature)
        unit_r, inverse_r = unit(g_r)
        retain_side = (product_r, inverse_r)
    c = jnp.asarray(optax.tree.vdot(unit_f, unit_r))
    s, slope = _similarity(c, similarity)

    towards = optax.tree.add_scale
    u_f = optax.tree.scale(inverse_f, towards(unit_r, -c, unit_f))
    bend = product_f(u_f)
    if retain_side is not None:
        product_r, inverse_r = retain_side
        u_r = optax.tree.scale(inverse_r, towards(unit_f, -c, unit_r))
        bend = optax.tree.add(bend, product_r(u_r))
    gradient = towards(g_f, -beta * slope, bend)
    return PhiEvaluation(l_f - beta * s, l_f, l_r, c, gradient, g_f, g_r)


def inner_objective(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    similarity: str = "cosine",
) -> jax.Array:
    """Φ(θ) = L_f(θ) − β S(c), a scalar (arXiv 2509.22483, inner problem)."""
    l_f, g_f = jax.value_and_grad(forget_loss)(params)
    s, _ = _similarity(cosine(g_f, jax.grad(retain_loss)(params)), similarity)
    return l_f - beta * s


def inner_gradient(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    similarity: str = "cosine",
    curvature: str = "vjp",
) -> Params:
    """∇Φ(θ), like ``params`` in structure and dtype; arguments of `evaluate_phi`.

    >>> import jax, jax.numpy as jnp
    >>> forget = lambda x: jnp.sum(x**2)
    >>> retain = lambda x: jnp.sum(x * jnp.array([1.0, 0.0]))
    >>> print(inner_gradient(jnp.array([0.0, 2.0]), forget, retain, beta=1.0))
    [-0.5  4. ]
    """
    evaluation = evaluate_phi(
        params,
        forget_loss,
        retain_loss,
        beta=beta,
        similarity=similarity,
        curvature=curvature,
    )
    return optax.tree.cast_like(evaluation.gradient, params)


def outer_objective(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    rho: float | jax.Array,
    similarity: str = "cosine",
) -> jax.Array:
    """F(θ) = L_r(θ) + ρ‖∇Φ(θ)‖², a scalar (arXiv 2509.22483, outer problem)."""
    gradient = inner_gradient(
        params, forget_loss, retain_loss, beta=beta, similarity=similarity
    )
    return retain_loss(params) + rho * norm(gradient) ** 2


def phi_curvature(
    phi: Callable[[Params], PhiEvaluation],
    params: Params,
    curvature: str,
    *,
    phi_is_difference: bool = False,
) -> tuple[PhiEvaluation, Params]:
    """∇Φ and ∇²Φ ∇Φ at ``params``, one primal pass for both where it is exact.

    ``phi_is_difference`` says that ``phi`` itself uses finite differences.
    """

    def gradient_fn(theta):
        evaluation = phi(theta)
        return optax.tree.cast_like(evaluation.gradient, theta), evaluation

    if curvature == "finite_difference":
        params = widen(params)
        gradient, evaluation = gradient_fn(params)
        product = _finite_difference(
            lambda theta: gradient_fn(theta)[0],
            params,
            gradient,
            gradient,
            order=2 if phi_is_difference else 1,
        )
    elif curvature == "vjp":
        gradient, pull, evaluation = jax.vjp(gradient_fn, params, has_aux=True)
        product = pull(gradient)[0]
    else:
        gradient, push, evaluation = jax.linearize(gradient_fn, params, has_aux=True)
        product = push(gradient)
    return evaluation, widen(product)


def outer_gradient(
    params: Params,
    forget_loss: LossFn,
    retain_loss: LossFn,
    *,
    beta: float | jax.Array,
    rho: float | jax.Array,
    similarity: str = "cosine",
    curvature: str = "vjp",
) -> Params:
    """∇F(θ) = ∇L_r + 2ρ ∇²Φ ∇Φ, like ``params`` in structure and dtype."""
    check_choice("curvature", curvature, CURVATURES)
    phi = functools.partial(
        evaluate_phi,
        forget_loss=forget_loss,
        retain_loss=retain_loss,
        beta=beta,
        similarity=similarity,
        curvature=curvature,
    )
    evaluation, product = phi_curvature(
        phi, params, curvature, phi_is_difference=curvature == "finite_difference"
    )
    g_r = evaluation.retain_gradient
    if g_r is None:  # β = 0: ∇Φ did not need it
        g_r = widen(jax.grad(retain_loss)(params))
    gradient = optax.tree.add_scale(g_r, 2 * rho, product)
    return optax.tree.cast_like(gradient, params)


def inner_ascent(
    params: Params,
    forget_loss: StepLossFn,
    retain_loss: StepLossFn,
    *,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int,
    beta: float | jax.Array,
    optimizer_state: optax.OptState | None = None,
    similarity: str = "cosine",
    curvature: str = "vjp",
    retain_direction: Params | None = None,
    forget_target: float | jax.Array | None = None,
    keep_last: bool = False,
) -> Ascent:
    """T steps of ascent on Φ, one `lax.scan`: θ' ← θ' + inner_optimizer(∇Φ(θ')).

    Args:
      params: where the ascent starts.
      forget_loss: ``(parameters, step) -> scalar`` with step = 0 … T−1, traced.
      retain_loss: likewise.
      inner_optimizer: any optax optimizer; it is given −∇Φ, so it ascends.
      inner_steps: T, a Python integer.
      optimizer_state: of the inner optimizer; None starts a new one.
      forget_target: the ascent rests (parameters and optimizer state stay) at steps
        where L_f has reached this value; −CE has no maximum of its own.
      keep_last: also return ∇Φ(θ'_{T−1}) and the last step, for the secant penalty.
      beta, similarity, curvature, retain_direction: see `evaluate_phi`.
    """
    state = inner_optimizer.init(params) if optimizer_state is None else optimizer_state
    zeros = optax.tree.zeros_like(params) if keep_last else None

    def ascend(carry, step):
        theta, state, _, _ = carry
        phi = evaluate_phi(
            theta,
            functools.partial(_at_step, forget_loss, step),
            functools.partial(_at_step, retain_loss, step),
            beta=beta,
            similarity=similarity,
            curvature=curvature,
            retain_direction=retain_direction,
        )
        downhill = optax.tree.cast_like(optax.tree.scale(-1, phi.gradient), theta)
        updates, new_state = inner_optimizer.update(downhill, state, theta)
        new_theta = optax.apply_updates(theta, updates)
        if forget_target is not None:
            go_on = phi.forget_loss < forget_target
            new_theta, new_state = jax.tree.map(
                lambda new, old: jnp.where(go_on, new, old),
                (new_theta, new_state),
                (theta, state),
            )
        last = (None, None)
        if keep_last:
            last = (
                optax.tree.cast_like(phi.gradient, theta),
                optax.tree.sub(new_theta, theta),
            )
        record = {
            "phi": phi.phi,
            "forget_loss": phi.forget_loss,
            "cosine": phi.cosine,
            "phi_grad_norm": norm(phi.gradient),
        }
        return (new_theta, new_state, *last), record

    carry, trace = jax.lax.scan(
        ascend, (params, state, zeros, zeros), jnp.arange(inner_steps)
    )
    theta, state, gradient, step = carry
    return Ascent(theta, state, trace, gradient, step)


def _at_step(loss: StepLossFn, step: jax.Array, params: Params) -> jax.Array:
    return loss(params, step)


def secant_product(new_gradient: Params, old_gradient: Params, step: Params) -> Params:
    """∇²Φ ∇Φ to first order in the last inner step s = θ'_T − θ'_{T−1}.

    ∇Φ(θ'_T) − ∇Φ(θ'_{T−1}) ≈ ∇²Φ s, and for plain ascent s = η ∇Φ(θ'_{T−1}). The
    factor η is read off the step by least squares, ⟨s, ∇Φ⟩ / ‖∇Φ‖², so that it also
    holds for normalised, clipped or scheduled ascent; for an inner optimizer that
    turns the direction (Adam) the product is that along the part it kept. 0 where
    nothing moved. Both gradients must belong to one batch.
    """
    square = norm(old_gradient) ** 2
    eta = optax.tree.vdot(step, old_gradient) / jnp.where(square > 0, square, 1)
    inverse = jnp.where(eta != 0, 1 / jnp.where(eta != 0, eta, 1), 0)
    return optax.tree.scale(inverse, optax.tree.sub(new_gradient, old_gradient))


def clip_to(tree: Params, limit: jax.Array) -> Params:
    """Scales the tree down so that its norm is at most ``limit``."""
    length = norm(tree)
    scale = jnp.where(length > limit, limit / jnp.where(length > 0, length, 1), 1)
    return optax.tree.scale(scale, tree)
