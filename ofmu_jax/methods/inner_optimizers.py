"""The optimizers of OFMU's inner ascent, by name."""

from typing import Literal

import jax.numpy as jnp
import optax

InnerOptimizer = Literal["sgd", "clipped", "normalized", "adam", "polyak"]


def polyak(
    fraction: float, *, maximum: float = 0.0, longest: float = 2e-3
) -> optax.GradientTransformationExtraArgs:
    """A step towards a known maximum of Φ, for models of any size.

    Along the gradient, to where its linear model has closed ``fraction`` of the gap to
    the maximum (Polyak's step): η = fraction · (maximum − Φ) / ‖∇Φ‖². It grows short by
    itself where the slope is steep or the maximum near, which a step of fixed length
    does not. Where a row is known by heart the slope is nearly flat and the step would
    be huge, so that it is at most ``longest`` times the norm of the parameters.

    Args:
      fraction: of the gap, above 0; usually well below 1.
      maximum: what Φ cannot exceed: 0 for a bounded forget loss, β more with a cosine.
      longest: in norms of the parameters.
    """

    def init(params):
        del params
        return optax.EmptyState()

    def update(updates, state, params=None, **extra_args):
        if params is None or "value" not in extra_args:
            raise ValueError("polyak needs update(…, params, value=…).")
        slope = optax.tree.norm(updates)
        gap = jnp.maximum(maximum + extra_args["value"], 0)  # the value is that of −Φ
        length = jnp.minimum(
            fraction * gap / jnp.where(slope > 0, slope, 1),
            longest * optax.tree.norm(params),
        )
        scale = -length / jnp.where(slope > 0, slope, 1)
        return optax.tree.scale(scale, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def inner_optimizer(
    name: InnerOptimizer,
    learning_rate: float,
    *,
    maximum: float | None,
    longest: float = 2e-3,
) -> optax.GradientTransformation:
    """One of them.

    Args:
      name: sgd; clipped (gradients of norm at most 1); normalized (of norm 1); adam;
        `polyak`, whose learning rate is its fraction.
      learning_rate: η_in.
      maximum: what Φ cannot exceed; None if there is nothing.
      longest: of `polyak`.

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
    return polyak(learning_rate, maximum=maximum, longest=longest)


def maximum_of(forget_loss: str, beta: float, similarity: str) -> float | None:
    """What Φ = L_forget − β S cannot exceed; None for the unbounded cross-entropy.

    >>> maximum_of("npo", 0.1, "cosine"), maximum_of("simnpo", 0.1, "squared_cosine")
    (0.1, 0.0)
    """
    if forget_loss == "cross_entropy":
        return None
    return beta if similarity == "cosine" else 0.0
