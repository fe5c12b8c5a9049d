"""Losses of a batch by parts: less memory at once, the same function.

The loss itself is cut into micro-batches, not the update: every derivative of it,
first, second or third, is that of the whole batch, and so are norms and cosines. A
mean of the micro-batches' cosines would be something else.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ofmu_jax.losses.tokens import IGNORED, Batch, next_labels

Weight = Callable[[Batch], jax.Array]  # what a loss is a mean over: how many there are


def rows(batch: Batch) -> jax.Array:
    """Number of sequences."""
    return jnp.asarray(len(batch["labels"]), jnp.int32)


def answer_tokens(batch: Batch) -> jax.Array:
    """Number of scored predictions."""
    return jnp.sum(next_labels(batch["labels"])[1])


def labelled_tokens(batch: Batch) -> jax.Array:
    """Number of tokens that carry a label, a first one included."""
    return jnp.sum(jnp.asarray(batch["labels"]) != IGNORED)


def later_answer_tokens(skip: int) -> Weight:
    """Number of scored predictions but for the first ``skip`` of each row."""

    def count(batch: Batch) -> jax.Array:
        scored = next_labels(batch["labels"])[1]
        return jnp.sum(scored & (jnp.cumsum(scored, -1) > skip))

    return count


OF_POSITIONS: dict[str, Weight] = {
    "answer": answer_tokens,
    "unshifted": labelled_tokens,
    "all": rows,  # of one length
}


def split(batch: Any, count: int) -> Any:
    """Leaves (B, …) as (count, B / count, …): part i has the rows i, i + count, …

    Every part so takes its share of the rows of each device that holds some.

    Raises:
      ValueError: if ``count`` does not divide B.
    """

    def one(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        if x.shape[0] % count:
            raise ValueError(
                f"a batch of {x.shape[0]} rows cannot be cut into {count} equal "
                "micro-batches; choose a number that divides it."
            )
        parts = x.reshape(x.shape[0] // count, count, *x.shape[1:])
        return jnp.swapaxes(parts, 0, 1)

    return jax.tree.map(one, batch)


def accumulated(loss: Callable[..., jax.Array], count: int, weight: Weight):
    """The same loss, computed micro-batch by micro-batch.

    Σ_i w_i ℓ_i / Σ_i w_i over ``count`` micro-batches, w_i from ``weight``: the loss
    of the whole batch, where that is a mean over what ``weight`` counts. Each part is
    recomputed in the backward pass, so that what is kept at once belongs to one of
    them; a gradient so costs a forward pass more.

    Args:
      loss: ``(params, batch, *more)``; what follows the batch is not cut.
      count: number of micro-batches; 1 gives the very loss back.
      weight: what the loss is a mean over.

    >>> mean = lambda w, batch: jnp.mean(w * batch["labels"][:, 0])
    >>> batch = {"labels": jnp.arange(8.0).reshape(4, 2)}
    >>> print(mean(2.0, batch), accumulated(mean, 2, rows)(2.0, batch))
    6.0 6.0
    """
    if count < 1:
        raise ValueError(f"{count} micro-batches make no batch; give at least 1.")
    if count == 1:
        return loss

    def whole(params: Any, batch: Batch, *more: Any, **options: Any) -> jax.Array:
        parts = split(batch, count)
        total = jnp.maximum(weight(batch), 1)

        @jax.checkpoint
        def share(params: Any, part: Batch) -> jax.Array:
            value = loss(params, part, *more, **options)
            return value * jnp.asarray(weight(part), value.dtype) / total

        first = jax.tree.map(lambda x: x[0], parts)
        zero = jnp.zeros((), jax.eval_shape(share, params, first).dtype)
        add = lambda sum_, part: (sum_ + share(params, part), None)
        return jax.lax.scan(add, zero, parts)[0]

    return whole
