"""The optimizers of OFMU's inner ascent, by name."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

InnerOptimizer = Literal["sgd", "clipped", "normalized", "adam", "polyak"]


# Of a checked step: the share of the length that the first one tries, and how much the
# bend may fall from one to the next, a factor 4 for twice the length.
FIRST, FALL, WORSE = 1 / 8, 1 / 4, 16.0


class PolyakState(NamedTuple):
    """State of `polyak`."""

    bend: jax.Array  # c of the last checked step, 0: there was none; shape=()


def polyak(
    fraction: float,
    *,
    maximum: float = 0.0,
    longest: float = 2e-3,
    checked: bool = False,
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
    of this value, Φ and its slope, Φ + ‖∇Φ‖ t + c t², has closed what was asked for. The
    length that is tried is that of the bend c before it. The first is an eighth of
    Polyak's; c falls to no less than a quarter from one step to the next, so that
    lengths at most double, and grows sixteenfold where Φ fell or is not finite.

    Args:
      fraction: of the gap, above 0; usually well below 1.
      maximum: what Φ cannot exceed: 0 for a bounded forget loss, β more with a cosine.
      longest: in norms of the parameters.
      checked: look where a step leads; needs ``value_fn`` as line searches do.
    """

    def init(params):
        if not checked:
            return optax.EmptyState()
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return PolyakState(jnp.zeros((), dtype))

    def update(updates, state, params=None, **extra_args):
        needed = ("value", "value_fn") if checked else ("value",)
        if params is None or not extra_args.keys() >= {*needed}:
            asked = ", ".join(f"{name}=…" for name in needed)
            raise ValueError(f"polyak needs update(…, params, {asked}).")
        slope = optax.tree.norm(updates)
        safe = jnp.where(slope > 0, slope, 1)
        gap = jnp.maximum(maximum + extra_args["value"], 0)  # the value is that of −Φ
        rise = fraction * gap  # that is asked for
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
        bend = jnp.where(risen > 0, jnp.maximum(found, FALL * before), WORSE * before)
        bend = jnp.where(slope * tried > 0, bend, state.bend)
        return along(reach(bend)), PolyakState(bend.astype(state.bend.dtype))

    return optax.GradientTransformationExtraArgs(init, update)


def inner_optimizer(
    name: InnerOptimizer,
    learning_rate: float,
    *,
    maximum: float | None,
    longest: float = 2e-3,
    checked: bool = False,
) -> optax.GradientTransformation:
    """One of them.

    Args:
      name: sgd; clipped (gradients of norm at most 1); normalized (of norm 1); adam;
        `polyak`, whose learning rate is its fraction.
      learning_rate: η_in.
      maximum: what Φ cannot exceed; None if there is nothing.
      longest, checked: of `polyak`.

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
    return polyak(learning_rate, maximum=maximum, longest=longest, checked=checked)


def maximum_of(forget_loss: str, beta: float, similarity: str) -> float | None:
    """What Φ = L_forget − β S cannot exceed; None for the unbounded cross-entropy.

    >>> maximum_of("npo", 0.1, "cosine"), maximum_of("simnpo", 0.1, "squared_cosine")
    (0.1, 0.0)
    """
    if forget_loss == "cross_entropy":
        return None
    return beta if similarity == "cosine" else 0.0
