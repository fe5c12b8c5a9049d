"""Arithmetic on pytrees that `bilevel` needs: norms, angles, differences, checks.

Norms, inner products and cosines are taken in float32 at least, whatever the dtype of
the leaves, and are safe over its whole range: a tree is first scaled by a power of two
that brings its largest entry to about 1, so that squares neither overflow nor vanish.
Scaling by a power of two is exact; in the ordinary range it changes no bit.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = Any  # a pytree of arrays
LossFn = Callable[[Params], jax.Array]  # parameters -> scalar


def name_of(path: Any, separator: str = "/") -> str:
    """A path of jax.tree_util as names joined by ``/``."""
    return jax.tree_util.keystr(path, simple=True, separator=separator)


def named(tree: Any) -> dict[str, Any]:
    """The leaves by dotted names; one name for a key, an attribute and an index.

    >>> named({"head": {"bias": 1}, "stem": (2, 3)})
    {'head.bias': 1, 'stem.0': 2, 'stem.1': 3}
    """
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {name_of(path, "."): leaf for path, leaf in flat}


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError if `value` is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {choices}.")


def is_static_zero(x: Any) -> bool:
    """True for a Python 0: the term is left out of the program altogether."""
    return isinstance(x, (int, float)) and x == 0


def scalar(name: str, loss: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The loss, refusing anything but a floating point scalar while it is traced."""

    def checked(*arguments):
        value = loss(*arguments)
        if isinstance(value, (tuple, list, dict)):
            problem = f"a {type(value).__name__}; return the loss alone"
        elif jnp.shape(value) != ():
            problem = f"shape {jnp.shape(value)}; reduce it, for example by jnp.mean"
        elif not jnp.issubdtype(dtype := jnp.result_type(value), jnp.floating):
            problem = f"dtype {dtype}; a count cannot be differentiated"
        else:
            return value
        raise ValueError(f"{name} must return a floating point scalar, got {problem}.")

    return checked


def differentiable(params: Params) -> Params:
    """The tree with None in place of integers and booleans.

    >>> differentiable({"w": 1.5, "steps": 3})
    {'steps': None, 'w': 1.5}
    """
    floating = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jax.tree.map(lambda x: x if floating(x) else None, params)


def complete(
    part: Params,
    params: Params,
    missing: Callable[[Any], bool] = lambda x: x is None,
) -> Params:
    """Fills what is ``missing``, the None of `differentiable`, from ``params``."""
    return jax.tree.map(
        lambda some, whole: whole if missing(some) else some,
        part,
        params,
        is_leaf=missing,
    )


def unflattened(vector: jax.Array, params: Params) -> Params:
    """A vector of all entries, as `optax.flatten` makes it, as a tree like ``params``.

    >>> unflattened(jnp.arange(3), {"a": jnp.zeros(()), "b": jnp.zeros((1, 2))})["b"]
    Array([[1, 2]], dtype=int32)
    """
    leaves, treedef = jax.tree.flatten(params)
    ends = np.cumsum([jnp.size(leaf) for leaf in leaves])[:-1]
    parts = zip(jnp.split(vector, ends), leaves, strict=True)
    return treedef.unflatten([x.reshape(jnp.shape(leaf)) for x, leaf in parts])


def like(params: Params, part: Params) -> Params:
    """``part`` in the structure and dtypes of ``params``; 0 where it has None."""
    free = optax.tree.cast_like(part, differentiable(params))
    return complete(free, optax.tree.zeros_like(params))


def widen(tree: Params) -> Params:
    """Casts leaves to float32, unless they are wider already."""
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32)),
        tree,
    )


def _scaled(tree: Params) -> tuple[Params, jax.Array]:
    """The tree times a power of two 1/m, and m; the largest entry is about 1."""
    tree = widen(tree)
    entries = [jnp.max(jnp.abs(x), initial=0) for x in jax.tree.leaves(tree)]
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack(entries))) if entries else 0.0
    _, exponent = jnp.frexp(largest)
    most = jnp.finfo(jnp.result_type(largest)).maxexp - 3
    exponent = jnp.clip(exponent, -most, most)
    one = jnp.ones((), jnp.result_type(largest))
    return optax.tree.scale(jnp.ldexp(one, -exponent), tree), jnp.ldexp(one, exponent)


def _length(tree: Params) -> jax.Array:
    """Euclidean norm whose gradient at 0 is 0; NaN stays NaN."""
    square = jnp.asarray(optax.tree.norm(tree, squared=True))
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def norm(tree: Params) -> jax.Array:
    """Global Euclidean norm in float32 or wider; its gradient at 0 is 0.

    >>> print(norm({"a": jnp.array([3e30]), "b": jnp.array([4e30])}))
    5e+30
    """
    scaled, unit_of_length = _scaled(tree)
    return unit_of_length * _length(scaled)


def unit(tree: Params) -> tuple[Params, jax.Array]:
    """The tree divided by its norm, and 1 / norm; both 0 for the zero tree.

    A norm below the least normal number, whose inverse overflows, counts as 0.
    """
    tree = widen(tree)
    scaled, unit_of_length = _scaled(tree)  # fused into the sum of its squares
    length = _length(scaled)
    zero = unit_of_length * length < jnp.finfo(length.dtype).tiny
    inverse = jnp.where(zero, 0, 1 / jnp.where(zero, 1, length)) / unit_of_length
    return optax.tree.scale(inverse, tree), inverse


def inner_product(a: Params, b: Params) -> jax.Array:
    """⟨a, b⟩ over all leaves.

    A sum of products, not `jnp.vdot`: that flattens its arguments, for which a leaf
    that is cut over devices has to be gathered whole, and multiplies in bfloat16 on a
    TPU.
    """
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return jnp.asarray(optax.tree.sum(products))


def cosine(g_f: Params, g_r: Params) -> jax.Array:
    """Cosine of the angle between two trees; 0 if one of them is 0.

    >>> print(cosine({"w": jnp.ones(4)}, {"w": -jnp.ones(4)}))
    -1.0
    """
    return inner_product(unit(g_f)[0], unit(g_r)[0])


def clip_to(tree: Params, limit: jax.Array) -> Params:
    """Scales the tree down so that its norm is at most ``limit``."""
    return optax.tree.scale(shrinking(norm(tree), limit), tree)


def shrinking(length: jax.Array, limit: jax.Array) -> jax.Array:
    """The factor that takes a length to at most ``limit``."""
    return jnp.where(length > limit, limit / jnp.where(length > 0, length, 1), 1)


def finite_difference(
    gradient_fn: Callable[[Params], Params],
    params: Params,
    gradient: Params,
    direction: Params,
    *,
    order: int = 1,
) -> Params:
    """(∇f(θ + hu) − ∇f(θ)) ‖v‖ / h with u = v/‖v‖ and h = eps^(1/2) (1 + ‖θ‖)^(1/2).

    With ``order=2`` the gradient is itself a difference, its noise about eps^(1/2),
    and h = eps^(1/4) balances noise against curvature. In float32 expect errors of up
    to a hundredth, and a few hundredths for differences of differences; in float64
    1e-8 and a few 1e-4.
    """
    unit_direction, _ = unit(direction)
    eps = jnp.finfo(optax.tree.dtype(params, "lowest")).eps
    displacement = eps**0.25 if order == 2 else eps**0.5 * jnp.sqrt(1 + norm(params))
    moved = gradient_fn(optax.tree.add_scale(params, displacement, unit_direction))
    difference = optax.tree.sub(widen(moved), widen(gradient))
    return optax.tree.scale(norm(direction) / displacement, difference)


def secant_product(new_gradient: Params, old_gradient: Params, step: Params) -> Params:
    """∇²Φ ∇Φ to first order in the last inner step s = θ'_T − θ'_{T−1}.

    ∇Φ(θ'_T) − ∇Φ(θ'_{T−1}) ≈ ∇²Φ s, and for plain ascent s = η ∇Φ(θ'_{T−1}). The
    factor η is read off the step by least squares, ⟨s, ∇Φ⟩ / ‖∇Φ‖², so that it also
    holds for normalised, clipped or scheduled ascent; for an inner optimizer that
    turns the direction (Adam) the product is that along the part it kept. 0 where
    nothing moved. Both gradients must belong to one batch.
    """
    direction, inverse_norm = unit(old_gradient)
    eta = inner_product(step, direction) * inverse_norm
    inverse = jnp.where(eta == 0, 0, 1 / jnp.where(eta == 0, 1, eta))
    return optax.tree.scale(inverse, optax.tree.sub(new_gradient, old_gradient))


def scan(body: Callable, carry: Any, steps: jax.Array, unroll: bool) -> tuple[Any, Any]:
    """`lax.scan`, or the same written out: ``lax.scan(…, unroll=True)`` keeps a loop
    where there is one step only, and a convolution in it is slow on a CPU."""
    if not unroll or not len(steps):
        return jax.lax.scan(body, carry, steps)
    records = []
    for step in steps:
        carry, record = body(carry, step)
        records.append(record)
    return carry, jax.tree.map(lambda *x: jnp.stack(x), *records)


def by_columns(function: Callable[..., Any], arrays: tuple, size: int) -> Any:
    """``function`` of ``size`` columns of the arrays (B, N, …) at a time, in one scan.

    Its results, arrays (B, size, …), are joined to (B, N, …); the last columns are
    filled up with zeros, and what is made of these is cut off again.
    """
    rows, count = arrays[0].shape[:2]
    number = -(-count // size)

    def cut(x: jax.Array) -> jax.Array:  # (number, B, size, …)
        blank = [(0, 0)] * x.ndim
        blank[1] = (0, number * size - count)
        parts = jnp.pad(x, blank).reshape(rows, number, size, *x.shape[2:])
        return jnp.swapaxes(parts, 0, 1)

    def join(x: jax.Array) -> jax.Array:
        joined = jnp.swapaxes(x, 0, 1).reshape(rows, number * size, *x.shape[3:])
        return joined[:, :count]

    step = lambda _, parts: (None, function(*parts))
    return jax.tree.map(join, jax.lax.scan(step, None, tuple(map(cut, arrays)))[1])
