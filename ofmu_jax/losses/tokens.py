"""What every language loss is made of: batches, masks, the NLL of tokens.

A batch is a dict of arrays of shape (B, L): ``input_ids``, ``labels`` (−100 where a
token is not scored) and ``attention_mask`` (1 where a key may be attended to).
``apply_fn(params, input_ids, attention_mask)`` gives logits of shape (B, L, V), and
those at position t predict token t + 1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

Params = Any
Batch = Mapping[str, Any]
ApplyFn = Callable[[Params, jax.Array, jax.Array], jax.Array]

IGNORED = -100  # the label of tokens that are not scored
POSITIONS = ("answer", "all")  # what a loss averages over


def logits_of(apply_fn: ApplyFn, params: Params, batch: Batch) -> jax.Array:
    """Logits of a batch, shape (B, L, V), in float32 or wider."""
    return widen(apply_fn(params, batch["input_ids"], batch["attention_mask"]))


def widen(x: jax.Array) -> jax.Array:
    """The array in float32, unless it is wider already."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def token_nll(
    logits_BxLxV: jax.Array, labels_BxL: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood of each next token, and the mask of scored ones.

    Position t predicts token t + 1, so both results have shape (B, L − 1); the first
    is 0 where the second is False. Computed in float32 whatever the logits' dtype.
    """
    chex.assert_rank([logits_BxLxV, labels_BxL], [3, 2])
    labels, scored = next_labels(labels_BxL)
    log_p = jax.nn.log_softmax(widen(logits_BxLxV[:, :-1]))
    nll = -jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    return jnp.where(scored, nll, 0), scored


def next_labels(labels_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What positions 0 … L − 2 have to predict (0 if unscored) and where it counts."""
    labels = jnp.asarray(labels_BxL)[:, 1:]
    scored = labels != IGNORED
    return jnp.where(scored, labels, 0), scored


def sequence_nll(
    apply_fn: ApplyFn, params: Params, batch: Batch
) -> tuple[jax.Array, jax.Array]:
    """Summed NLL s and number N of scored tokens of each sequence, both (B,)."""
    nll, scored = token_nll(logits_of(apply_fn, params, batch), batch["labels"])
    return jnp.sum(nll, -1), jnp.sum(scored, -1)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of ``values`` where ``mask`` is true; 0 if that is nowhere."""
    total = jnp.sum(jnp.where(mask, values, 0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def required(batch: Batch, key: str, loss: str, what: str) -> Any:
    """``batch[key]``, or an error that says which loss misses it and what it is."""
    if key not in batch:
        raise ValueError(f"{loss} needs batch[{key!r}], {what}.")
    return batch[key]


def check_positions(positions: str, choices: tuple[str, ...] = POSITIONS) -> None:
    """Raises ValueError if ``positions`` is not one of ``choices``."""
    if positions not in choices:
        raise ValueError(
            f"positions={positions!r} is unknown; choose one of {choices}."
        )
