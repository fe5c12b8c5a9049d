"""The optimizers of OFMU's inner ascent, by name."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

InnerOptimizer = Literal["sgd", "clipped", "normalized", "adam", "polyak"]


# Of a checked step: the share of the length that the first one tries, and how much the
# bend may fall from one to the next, a factor 4 for twice the length.
FIRST, FALL, WORSE = 1 / 8, 1 / 4, 16.0
# Where the retain loss is watched: shares of the fraction, changes of a share, how far
# the loss's level follows a lower one and a higher one.
START, LEAST = 1 / 4, 1 / 16
LESS, MORE = 1 / 4, 1.5
DOWN, UP = 1 / 4, 1 / 32


class PolyakState(NamedTuple):
    """State of a checked `polyak`."""

    bend: jax.Array  # c of the last checked step, 0: there was none; shape=()
    share: jax.Array  # of the fraction that is asked for; shape=()
    retain_loss: jax.Array  # its level, see `eased`, ∞: none was seen; shape=()


def polyak(
    fraction: float,
    *,
    maximum: float = 0.0,
    longest: float = 2e-3,
    checked: bool = False,
    share: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """A step towards a known maximum of Φ, for models of any size.

    Along the gradient, to where its linear model has closed ``fraction`` of the gap to
    the maximum (Polyak's step): η = fraction · (maximum − Φ) / ‖∇Φ‖². It grows short by
    itself where the slope is steep or the maximum near, which a step of fixed length
    does not. Where a row is known by heart the slope is nearly flat and the step would
    be huge, so that it is at most ``longest`` times the norm of the parameters.

    The slope of what is known by heart rises on the way, so that such a step goes too
    far, in a pretrained model by much. ``checked``: Φ is computed where a step of
    length t leads, one more forward pass, and the step is taken to where the parabola
    of this value, Φ and its slope, Φ + ‖∇Φ‖ t + c t², has closed what was asked for.
    The length that is tried is that of the bend c before it. The first is an eighth of
    Polyak's; c falls to no less than a quarter from one step to the next, and only
    while it more than halves the length, and grows sixteenfold where Φ fell or is not
    finite. What is held constant of Φ is no part of the gap.

    Args:
      fraction: of the gap, above 0; usually well below 1.
      maximum: what Φ cannot exceed: 0 for a bounded forget loss, β more with a cosine.
      longest: in norms of the parameters.
      checked: look where a step leads; needs ``value_fn`` as line searches do.
      share: of the fraction, that checked steps ask for at first; see `eased`.
    """

    def init(params):
        if not checked:
            return optax.EmptyState()
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return PolyakState(*(jnp.full((), x, dtype) for x in (0, share, jnp.inf)))

    def update(updates, state, params=None, **extra_args):
        needed = ("value", "value_fn") if checked else ("value",)
        if params is None or not extra_args.keys() >= {*needed}:
            asked = ", ".join(f"{name}=…" for name in needed)
            raise ValueError(f"polyak needs update(…, params, {asked}).")
        slope = optax.tree.norm(updates)
        safe = jnp.where(slope > 0, slope, 1)
        gap = maximum + extra_args["value"]  # the value is that of −Φ
        if checked:
            gap = state.share * (gap - extra_args.get("held", 0.0))
        rise = fraction * jnp.maximum(gap, 0)  # that is asked for
        most = longest * optax.tree.norm(params)
        along = lambda length: optax.tree.scale(-length / safe, updates)
        if not checked:
            return along(jnp.minimum(rise / safe, most)), state

        def reach(bend):  # where slope · t + bend · t² is the rise
            root = jnp.sqrt(safe**2 + 4 * bend * rise)
            return jnp.minimum(2 * rise / (safe + root), most)

        first = (1 - FIRST) / FIRST**2 * safe**2 / jnp.where(rise > 0, rise, 1)
        before = jnp.where(state.bend > 0, state.bend, first)
        tried = reach(before)
        there = extra_args["value_fn"](optax.apply_updates(params, along(tried)))
        risen = extra_args["value"] - there
        found = (risen - slope * tried) / jnp.where(tried > 0, tried, 1) ** 2
        fallen = jnp.where(before * tried > slope, FALL * before, before)
        bend = jnp.where(risen > 0, jnp.maximum(found, fallen), WORSE * before)
        bend = jnp.where(slope * tried > 0, bend, state.bend).astype(state.bend.dtype)
        return along(reach(bend)), state._replace(bend=bend)

    return optax.GradientTransformationExtraArgs(init, update)


def kept(state: PolyakState, retain_loss: jax.Array, harm: float) -> jax.Array:
    """The share of an update that is kept whose ascents left this retain loss, at most
    1; shape=().

    Harm grows with the square of a step that is short: where ascents broke more than
    ``harm``, their way is taken back to where they had broken that much, and the outer
    steps that followed with it. A loss that is not finite takes nothing back: the run
    has to see it.
    """
    above = jnp.maximum(_above(state, retain_loss), harm)
    return jnp.where(jnp.isfinite(retain_loss), jnp.sqrt(harm / above), 1)


def eased(state: PolyakState, retain_loss: jax.Array, harm: float) -> PolyakState:
    """The state after ascents that left this retain loss: what breaks more than outer
    steps mend is not asked for again.

    Where the loss is ``harm`` above its level, the next ascents ask for the same share
    of the fraction. Else the share changes with the root of harm / what it is above, by
    a factor of at least a quarter and at most 1.5. The level follows a lower loss by a
    quarter of the way and a higher one by a 32nd: batches differ, and the least of many
    is no level.
    """
    finite = jnp.isfinite(retain_loss)
    above = _above(state, retain_loss)
    change = jnp.sqrt(harm / jnp.maximum(above, harm / MORE**2))
    change = jnp.where(finite, jnp.maximum(change, LESS), LESS)
    share = jnp.clip(state.share * change, LEAST, 1)
    level = retain_loss - above
    level = level + jnp.where(above < 0, DOWN, UP) * above
    level = jnp.where(finite, level, state.retain_loss)
    cast = lambda x, like: x.astype(like.dtype)
    return PolyakState(
        state.bend, cast(share, state.share), cast(level, state.retain_loss)
    )


def _above(state: PolyakState, retain_loss: jax.Array) -> jax.Array:
    """Nats above the level; 0 of the first loss, which makes it."""
    known = jnp.isfinite(state.retain_loss)
    return jnp.where(known, retain_loss - state.retain_loss, 0)


def inner_optimizer(
    name: InnerOptimizer,
    learning_rate: float,
    *,
    maximum: float | None,
    longest: float = 2e-3,
    checked: bool = False,
    share: float = 1.0,
) -> optax.GradientTransformation:
    """One of them.

    Args:
      name: sgd; clipped (gradients of norm at most 1); normalized (of norm 1); adam;
        `polyak`, whose learning rate is its fraction.
      learning_rate: η_in.
      maximum: what Φ cannot exceed; None if there is nothing.
      longest, checked, share: of `polyak`.

    Raises:
      ValueError: polyak where Φ has no maximum.
    """
    match name:
        case "sgd":
            return optax.sgd(learning_rate)
        case "clipped":
            clip = optax.clip_by_global_norm(1.0)
            return optax.chain(clip, optax.sgd(learning_rate))
        case "normalized":
            unit = optax.normalize_by_update_norm()
            return optax.chain(unit, optax.sgd(learning_rate))
        case "adam":
            return optax.adam(learning_rate)
    if maximum is None:
        raise ValueError(
            "the inner optimizer polyak steps towards the maximum of the forget loss, "
            "and cross_entropy has none; choose a bounded forget loss, or another "
            "inner optimizer (clipped, normalized)."
        )
    options = {"longest": longest, "checked": checked, "share": share}
    return polyak(learning_rate, maximum=maximum, **options)


def maximum_of(forget_loss: str, beta: float, similarity: str) -> float | None:
    """What Φ = L_forget − β S cannot exceed; None for the unbounded cross-entropy.

    >>> maximum_of("npo", 0.1, "cosine"), maximum_of("simnpo", 0.1, "squared_cosine")
    (0.1, 0.0)
    """
    if forget_loss == "cross_entropy":
        return None
    return beta if similarity == "cosine" else 0.0
