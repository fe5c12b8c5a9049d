"""Pieces of unlearning as a constrained problem (PDU, arXiv 2506.05314).

Minimise a forget loss F subject to R ≤ ε for the retain loss R: descend the
Lagrangian F + λ (R − ε) in the parameters and ascend it in the multiplier λ ≥ 0.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from ofmu_jax.losses.tokens import (
    IGNORED,
    ApplyFn,
    Batch,
    Params,
    check_positions,
    logits_of,
    masked_mean,
    next_labels,
)

Positions = Literal["answer", "unshifted", "all"]
POSITIONS = get_args(Positions)


def logit_margin(
    apply_fn: ApplyFn, params: Params, batch: Batch, *, positions: Positions = "answer"
) -> jax.Array:
    """Mean of (max_v z_v − mean_v z_v)²: 0 where all tokens are equally likely.

    Flattening logits z instead of raising the entropy keeps the gradient alive near
    certainty, where that of a softmax vanishes.

    Args:
      positions: ``"answer"`` averages over the predictions of scored tokens,
        ``"unshifted"`` over the positions of the scored tokens themselves (one later:
        the published code), ``"all"`` over every position, padding included.
    """
    check_positions(positions, POSITIONS)
    logits = logits_of(apply_fn, params, batch)
    square_BxL = (jnp.max(logits, -1) - jnp.mean(logits, -1)) ** 2
    if positions == "all":
        return jnp.mean(square_BxL)
    if positions == "unshifted":
        return masked_mean(square_BxL, jnp.asarray(batch["labels"]) != IGNORED)
    return masked_mean(square_BxL[:, :-1], next_labels(batch["labels"])[1])


def dual_ascent(
    multiplier: jax.Array, violation: jax.Array, step_size: float | jax.Array
) -> jax.Array:
    """λ ← max(0, λ + η · violation): a step of projected ascent on the Lagrangian.

    The violation is R − ε; the multiplier falls, to 0 at least, where it is negative.
    """
    return jnp.maximum(multiplier + step_size * violation, 0)
