"""What every language loss is made of: batches, masks, the NLL of tokens.

A batch is a dict of arrays of shape (B, L): ``input_ids``, ``labels`` (−100 where a
token is not scored) and ``attention_mask`` (1 where a key may be attended to).
``apply_fn(params, input_ids, attention_mask)`` gives logits of shape (B, L, V), and
those at position t predict token t + 1. It may give a `Projected` in their place.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import chex
import jax
import jax.numpy as jnp

from ofmu_jax._trees import by_columns

Params = Any
Batch = Mapping[str, Any]

IGNORED = -100  # the label of tokens that are not scored
Positions = Literal["answer", "all"]  # what a loss averages over
POSITIONS = get_args(Positions)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Projected:
    """Logits that are not multiplied out: hidden states, and the matrix for them.

    `token_nll` makes them for ``chunk`` positions of each row at a time, forwards and
    backwards, so that (B, chunk, V) is all that is there of them at once.
    """

    hidden_BxLxD: jax.Array  # after the last norm, in the dtype of the computation
    head_VxD: jax.Array  # in its own dtype: gradients of the chunks are summed in it
    chunk: int = dataclasses.field(metadata={"static": True})

    def logits(self) -> jax.Array:
        """All of them, (B, L, V), in float32."""
        return _project(self.hidden_BxLxD, self.head_VxD)


Outputs = jax.Array | Projected
ApplyFn = Callable[[Params, jax.Array, jax.Array], Outputs]


def outputs_of(apply_fn: ApplyFn, params: Params, batch: Batch) -> Outputs:
    """What the model gives for a batch; for losses that `token_nll` is enough for."""
    return apply_fn(params, batch["input_ids"], batch["attention_mask"])


def logits_of(apply_fn: ApplyFn, params: Params, batch: Batch) -> jax.Array:
    """Logits of a batch, shape (B, L, V), in float32 or wider.

    For losses that look at whole distributions: a `Projected` is multiplied out.
    """
    outputs = outputs_of(apply_fn, params, batch)
    return widen(outputs.logits() if isinstance(outputs, Projected) else outputs)


def widen(x: jax.Array) -> jax.Array:
    """The array in float32, unless it is wider already."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def token_nll(outputs: Outputs, labels_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood of each next token, and the mask of scored ones.

    Position t predicts token t + 1, so both results have shape (B, L − 1); the first
    is 0 where the second is False. Computed in float32 whatever the logits' dtype.
    ``outputs`` are logits (B, L, V), or a `Projected`.
    """
    labels, scored = next_labels(labels_BxL)
    if isinstance(outputs, Projected):
        nll = _nll_by_chunks(outputs, labels)
    else:
        chex.assert_rank([outputs, labels_BxL], [3, 2])
        # At the last position too: to cut it off here would copy all logits.
        nll = _nll(outputs, jnp.pad(labels, ((0, 0), (0, 1))))[:, :-1]
    return jnp.where(scored, nll, 0), scored


def _nll(logits_BxLxV: jax.Array, labels_BxL: jax.Array) -> jax.Array:
    logits_BxLxV = widen(logits_BxLxV)
    chosen = jnp.take_along_axis(logits_BxLxV, labels_BxL[..., None], -1)[..., 0]
    return jax.nn.logsumexp(logits_BxLxV, axis=-1) - chosen


def _project(hidden_BxLxD: jax.Array, head_VxD: jax.Array) -> jax.Array:
    # As one matrix: on a CPU the gradient of others is computed by way of copies.
    logits = jnp.matmul(
        hidden_BxLxD.reshape(-1, hidden_BxLxD.shape[-1]),
        head_VxD.astype(hidden_BxLxD.dtype).T,
        preferred_element_type=jnp.float32,
    )
    return logits.reshape(*hidden_BxLxD.shape[:-1], head_VxD.shape[0])


def _nll_by_chunks(outputs: Projected, labels_BxN: jax.Array) -> jax.Array:
    """The NLL at the first N positions, recomputed by chunks in every derivative."""
    chex.assert_rank([outputs.hidden_BxLxD, labels_BxN], [3, 2])
    count = labels_BxN.shape[1]

    # Within a scan nothing can be merged with the forward pass: no need to forbid it.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def nll(hidden: jax.Array, labels: jax.Array, head: jax.Array) -> jax.Array:
        return _nll(_project(hidden, head), labels)

    return by_columns(
        lambda hidden, labels: nll(hidden, labels, outputs.head_VxD),
        (outputs.hidden_BxLxD[:, :count], labels_BxN),
        min(outputs.chunk, count),
    )


def next_labels(labels_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What positions 0 … L − 2 have to predict (0 if unscored) and where it counts."""
    labels = jnp.asarray(labels_BxL)[:, 1:]
    scored = labels != IGNORED
    return jnp.where(scored, labels, 0), scored


def sequence_nll(
    apply_fn: ApplyFn, params: Params, batch: Batch
) -> tuple[jax.Array, jax.Array]:
    """Summed NLL s and number N of scored tokens of each sequence, both (B,)."""
    nll, scored = token_nll(outputs_of(apply_fn, params, batch), batch["labels"])
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
