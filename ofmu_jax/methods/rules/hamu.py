"""HAMU: within a trust region, the best retain step that still forgets enough.

Each tensor minimises ⟨g_r, δ⟩ subject to ⟨a, δ⟩ ≥ B and ‖δ‖ ≤ R, where a = −g_f is
the gradient of the loss that is ascended (arXiv 2606.02119). The radius is that of a
plain retain step, R = η ‖g_r‖, so that η divides out; a tensor is a leaf of the tree,
which of stacked layers is all of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import bilevel
from ofmu_jax._optimizers import Optimizer, optimizer_of
from ofmu_jax.methods.base import BatchLoss, Method, Params
from ofmu_jax.methods.rules.weighted import both_gradients

COLINEAR = 1e-6  # of a sine, below which rounding alone is left across


class HamuState(NamedTuple):
    """State of `hamu`."""

    optimizer: optax.OptState
    stopped: jax.Array  # whether the stopping rule has held; shape=(), dtype=bool


def hamu_direction(
    g_f: Params, g_r: Params, *, constraint: Any = 0.5, relative: bool = True
) -> tuple[Params, jax.Array]:
    """−δ / η of the closed form in each tensor, and whether to stop.

    Of one tensor, with n = ‖g_r‖ ‖a‖ and its share b of the constraint (B = η b):

    - direct, where ⟨g_r, a⟩ ≤ −b: g_r itself, which forgets enough;
    - rectified: −a b / ‖a‖² + u √(‖g_r‖² − b² / ‖a‖²), u the unit vector of what is
      across a in g_r, so that the length is ‖g_r‖ and the progress is b;
    - colinear, where nothing of g_r is across: −a b / ‖a‖²;
    - infeasible, where n < b: −a b / ‖a‖² as well, beyond the radius.

    Stop where Σ √(n² − ⟨g_r, a⟩²) < Σ b: no step across is left that forgets enough.

    Args:
      g_f: gradient of the forget loss that is minimised.
      constraint: c.
      relative: b = c n, which no scale of a loss changes; otherwise b = c n / Σ n,
        which together is c, as published.
    """
    f, treedef = jax.tree.flatten(bilevel.widen(g_f))
    r = jax.tree.leaves(bilevel.widen(g_r))
    products = [bilevel.norm(x) * bilevel.norm(y) for x, y in zip(f, r, strict=True)]
    total = sum(products)
    scale = constraint if relative else constraint / jnp.where(total > 0, total, 1)
    shares = [scale * n for n in products]
    found = [_tensor(x, y, b) for x, y, b in zip(f, r, shares, strict=True)]
    across = sum(n * s for n, (_, s) in zip(products, found, strict=True))
    direction = jax.tree.unflatten(treedef, [d for d, _ in found])
    return optax.tree.cast_like(direction, g_f), jnp.asarray(across < sum(shares))


def _tensor(f: jax.Array, r: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """−δ / η of one tensor, and the sine of the angle between g_r and a."""
    (e, inverse), (_, inverse_r) = bilevel.unit(f), bilevel.unit(r)
    length = bilevel.norm(r)
    along = bilevel.inner_product(r, e)  # −⟨g_r, a⟩ / ‖a‖
    rest = r - along * e
    least = b * inverse  # b / ‖a‖
    u, _ = bilevel.unit(rest)
    sine = bilevel.norm(rest) * inverse_r
    room = length**2 - least**2
    across = jnp.where((room > 0) & (sine > COLINEAR), room, 0)
    rectified = least * e + jnp.sqrt(across) * u
    return jnp.where(along >= least, r, rectified), sine


def hamu(
    forget_loss: BatchLoss,
    retain_loss: BatchLoss,
    optimizer: Optimizer,
    *,
    constraint: float = 0.5,
    relative: bool = True,
    stop: bool = False,
) -> Method:
    """Steps along `hamu_direction`.

    Args:
      forget_loss: to be minimised.
      stop: nothing moves from the first minibatch on for which the stopping rule
        holds (off in the published code, too, unless asked for).
    """
    optimizer = optimizer_of("optimizer", optimizer)

    def init(params: Params) -> HamuState:
        return HamuState(optimizer.init(params), jnp.zeros((), bool))

    def update(params, state, batches):
        g_f, g_r, metrics = both_gradients(forget_loss, retain_loss, params, batches)
        direction, met = hamu_direction(
            g_f, g_r, constraint=constraint, relative=relative
        )
        updates, inner = optimizer.update(direction, state.optimizer, params)
        moved = optax.apply_updates(params, updates)
        if not stop:
            return moved, HamuState(inner, state.stopped | met), metrics
        stopped = state.stopped | met
        keep = lambda old, new: jax.tree.map(
            lambda x, y: jnp.where(stopped, x, y), old, new
        )
        state = HamuState(keep(state.optimizer, inner), stopped)
        return keep(params, moved), state, metrics

    return Method(init, update, batches_per_update=1, gradient_evaluations=2)
