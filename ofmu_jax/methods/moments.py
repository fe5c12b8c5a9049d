r"""Adam's two moments in bfloat16: half the memory of the optimizer's state.

bfloat16 has 8 significant bits, so that rounding to the nearest loses a change below
2⁻⁹ … 2⁻⁸ of a number. The first moment changes by a tenth of what is new in every step
and stands that: its error stays below 10 · 2⁻⁹ = 2 %. The second one falls by a
thousandth at most (decay 0.999), which is less than 2⁻⁹: it would rise and never fall,
and steps would stay as short as the largest gradient ever made them. It is rounded at
random therefore, up or down with the probabilities that keep its mean: the variance of
a rounding is at most 2⁻⁷ · 10⁻³ of the number's square, and the sum over the decay,
Σ 0.999²ᵏ = 500, gives a deviation of √(2⁻⁷ / 2) = 6 %, 3 % of a step's length.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ofmu_jax._trees import widen


def scale_by_adam_in_bfloat16(**options: Any) -> optax.GradientTransformation:
    """`optax.scale_by_adam` whose state holds both moments in bfloat16.

    An update is computed in float32 from what the state holds. What is drawn depends on
    the number of the update alone: a run that goes on draws the same.

    >>> tx = scale_by_adam_in_bfloat16(b1=0.5)
    >>> state = tx.init({"w": jnp.zeros(2)})
    >>> updates, state = tx.update({"w": jnp.array([1.0, -3.0])}, state)
    >>> print(updates["w"].round(3), state.mu["w"], state.nu["w"].dtype)
    [ 1. -1.] [0.5 -1.5] bfloat16

    Args:
      options: of `optax.scale_by_adam`, but for ``mu_dtype``.
    """
    adam = optax.scale_by_adam(**options)

    def init_fn(params: Any) -> optax.ScaleByAdamState:
        state: Any = adam.init(params)
        half = lambda tree: optax.tree.cast(tree, jnp.bfloat16)
        return state._replace(mu=half(state.mu), nu=half(state.nu))

    def update_fn(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        wide = state._replace(mu=widen(state.mu), nu=widen(state.nu))
        found: Any = adam.update(updates, wide, params)
        updates, new = found
        key = jax.random.fold_in(jax.random.key(0), new.count)
        leaves, treedef = jax.tree.flatten(new.nu)
        nu = [
            at_random(leaf, jax.random.fold_in(key, number))
            for number, leaf in enumerate(leaves)
        ]
        return updates, new._replace(
            mu=optax.tree.cast(new.mu, jnp.bfloat16), nu=treedef.unflatten(nu)
        )

    return optax.GradientTransformation(init_fn, update_fn)


def at_random(x: jax.Array, key: jax.Array) -> jax.Array:
    """A neighbour of ``x`` in bfloat16, in the mean ``x``; what is exact stays."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    below = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    cut = (bits + below) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(cut, jnp.float32).astype(jnp.bfloat16)
