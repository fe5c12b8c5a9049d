"""The optimizers of OFMU's inner ascent, by name."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

InnerOptimizer = Literal["sgd", "clipped", "normalized", "adam", "polyak"]


FIRST, LESS, MORE = 1 / 8, 1 / 4, 2.0  # of a checked step: its share of the length


class PolyakState(NamedTuple):
    """State of `polyak`."""

    share: jax.Array  # of the length that is tried next; shape=()


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
    far, in a pretrained model by much. ``checked``: Φ is computed where a step would
    lead, one more forward pass. If it rose by more than was asked for, or fell, a
    quarter of the step is taken; else the step. Steps start with an eighth of the
    length and may double from one to the next while they close less than half of what
    was asked for: a trust region whose radius is a share of the length (Conn, Gould
    and Toint 2000, algorithm 6.1.1), held against the gap in place of the model.

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
        return PolyakState(jnp.full((), FIRST, dtype))

    def update(updates, state, params=None, **extra_args):
        needed = ("value", "value_fn") if checked else ("value",)
        if params is None or not extra_args.keys() >= {*needed}:
            asked = ", ".join(f"{name}=…" for name in needed)
            raise ValueError(f"polyak needs update(…, params, {asked}).")
        slope = optax.tree.norm(updates)
        gap = jnp.maximum(maximum + extra_args["value"], 0)  # the value is that of −Φ
        length = jnp.minimum(
            fraction * gap / jnp.where(slope > 0, slope, 1),
            longest * optax.tree.norm(params),
        )
        step = optax.tree.scale(-length / jnp.where(slope > 0, slope, 1), updates)
        if not checked:
            return step, state
        step = optax.tree.scale(state.share, step)
        there = extra_args["value_fn"](optax.apply_updates(params, step))
        rise = extra_args["value"] - there
        kept = (rise >= 0) & (rise <= fraction * gap)  # not where it is NaN
        grown = jnp.where(rise < fraction * gap / 2, MORE, 1.0)
        share = jnp.minimum(state.share * jnp.where(kept, grown, LESS), 1)
        step = optax.tree.scale(jnp.where(kept, 1, LESS), step)
        return step, PolyakState(share.astype(state.share.dtype))

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
