"""Teacher-forced token scores of a language model, the input of every metric.

One jitted function turns a padded batch into four numbers per labelled token; the
rest of `ofmu_jax.evals` is numpy on the host.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.data.language.prompts import (
    IGNORE,
    Batch,
    Encoded,
    InteriorEot,
    pad_right,
)
from ofmu_jax.parallel.distributed import to_host
from ofmu_jax.parallel.sharding import put

ApplyFn = Callable[[Any, Any, Any], jax.Array]  # (params, ids, mask) -> logits BxLxV
# Rows of a batch among the examples, their labels, and what `logit_scores` gives.
Scored = tuple[list[int], np.ndarray, tuple[jax.Array, ...]]


class EvaluationError(ValueError):
    """A model or a data set that cannot be evaluated; says which and what to do."""


@dataclasses.dataclass(frozen=True)
class TokenScores:
    """Scores of the n labelled tokens of one example, end-of-sequence included if any.

    >>> scores = TokenScores(np.log([0.5, 0.5]), np.ones(2, bool), *np.zeros((2, 2)))
    >>> round(scores.probability, 6), len(scores), len(scores.without_eos())
    (0.5, 2, 1)
    """

    log_prob: np.ndarray  # log p(label); shape (n,), float32, nats
    correct: np.ndarray  # argmax == label; shape (n,), bool
    mean: np.ndarray  # μ = Σ_v p_v log p_v; shape (n,), float32
    variance: np.ndarray  # σ² = Σ_v p_v (log p_v)² − μ²; shape (n,), float32
    ended: bool = True  # the last token is an end-of-sequence token

    def __len__(self) -> int:
        return len(self.log_prob)

    @property
    def avg_loss(self) -> float:
        """Mean negative log-likelihood per token in nats, end-of-sequence included."""
        return float(-np.mean(self.log_prob, dtype=np.float64))

    @property
    def probability(self) -> float:
        """Length-normalised probability of the answer, exp(−avg_loss)."""
        return float(np.exp(-self.avg_loss))

    def without_eos(self) -> "TokenScores":
        """The same scores without the end of sequence, the last labelled token."""
        *arrays, ended = vars(self).values()
        return TokenScores(*(x[:-1] for x in arrays), ended=False) if ended else self


@functools.partial(jax.jit, static_argnums=0)
def token_scores(
    apply_fn: ApplyFn, params, input_ids_BxL, labels_BxL, attention_mask_BxL
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Scores every position of a batch; the logits at t − 1 predict the label at t.

    Args:
      apply_fn: (params, input_ids, attention_mask) -> logits of shape (B, L, V). It
        keys the compilation cache: pass the same function object every time.
      labels_BxL: token ids to score, -100 elsewhere.
      attention_mask_BxL: 1 where a token may be attended to.

    Returns:
      log_prob, correct, mean and variance as in `TokenScores`, each of shape
      (B, L − 1) and in float32 (correct: bool); meaningless where the label is -100.
    """
    chex.assert_rank([input_ids_BxL, labels_BxL, attention_mask_BxL], 2)
    logits_BxLxV = apply_fn(params, input_ids_BxL, attention_mask_BxL)
    chex.assert_rank(logits_BxLxV, 3)
    labels_BxL = labels_BxL[:, 1:]
    target_BxL = jnp.where(labels_BxL == IGNORE, 0, labels_BxL)
    return logit_scores(logits_BxLxV[:, :-1].astype(jnp.float32), target_BxL)


def logit_scores(
    logits: jax.Array, target: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The four numbers of `TokenScores` of each token.

    Args:
      logits: of shape (…, V), float32.
      target: what is scored, of shape (…), int32.
    """
    target = target[..., None]
    chosen = jnp.take_along_axis(logits, target, -1)
    top = jnp.max(logits, axis=-1, keepdims=True)
    # argmax == target, but by plain reductions, which a CPU is faster at.
    earlier = jnp.arange(logits.shape[-1]) < target
    correct = (chosen == top)[..., 0] & ~jnp.any((logits == top) & earlier, axis=-1)
    weight = jnp.exp(logits - top)
    total = jnp.sum(weight, axis=-1)
    log_total = jnp.log(total)
    # `where`: a vocabulary entry masked to -inf adds 0 to the moments, not NaN.
    shifted = jnp.where(weight > 0, logits - top, 0.0)
    mean = jnp.sum(weight * shifted, axis=-1) / total
    # Σ p (log p − μ)² is Σ p (log p)² − μ² without its cancellation in float32.
    centred = weight * jnp.square(shifted - mean[..., None])
    variance = jnp.sum(centred, axis=-1) / total
    return (chosen - top)[..., 0] - log_total, correct, mean - log_total, variance


def score_batches(
    apply_fn: ApplyFn,
    params: Any,
    examples: Sequence[Encoded],
    *,
    batch_size: int = 16,
    pad_id: int = 0,
    interior_eot: InteriorEot = "correct",
    eot_id: int | None = None,
    bucket_lengths: Sequence[int] | None = None,
    sharding: jax.sharding.Sharding | None = None,
    before_batch: Callable[[], None] = lambda: None,
) -> list[TokenScores]:
    """Scores examples in batches of a fixed size and a few fixed lengths.

    Args:
      apply_fn: (params, input_ids, attention_mask) -> logits of shape (B, L, V).
      examples: encoded questions and answers, in any order of length.
      batch_size: rows of every batch; the last one is filled with blank rows.
      pad_id: token id written into the padding on the right.
      interior_eot: "correct" lets tokens attend to every real token; "compat" hides
        each end-of-turn token, as open-unlearning does where pad = eos.
      eot_id: id of the token that "compat" hides; `pad_id` by default.
      bucket_lengths: lengths to pad to; powers of two from 32 on by default.
      sharding: where to put a batch, such as rows over the mesh axis "data".
      before_batch: may raise, to end it before the next batch.

    Returns:
      One `TokenScores` per example, in the order of `examples`.

    Raises:
      EvaluationError: an example cannot be scored, or its scores are not finite.
    """
    check_examples(examples, batch_size)

    def batches() -> Iterator[Scored]:
        for rows, length in _plan(examples, batch_size, bucket_lengths):
            before_batch()
            batch = _pad(
                [examples[row] for row in rows],
                batch_size,
                length,
                pad_id=pad_id,
                interior_eot=interior_eot,
                eot_id=eot_id,
            )
            arrays = (batch["input_ids"], batch["labels"], batch["attention_mask"])
            if sharding is not None:
                arrays = tuple(put(array, sharding) for array in arrays)
            yield rows, batch["labels"], token_scores(apply_fn, params, *arrays)

    return collected(len(examples), batches())


def pair_scorer(
    apply_fn: ApplyFn,
    params: Any,
    encode: Callable[[str, str], Encoded],
    **options,
) -> Callable[[Sequence[tuple[str, str]]], list[TokenScores]]:
    """`score_batches` as a function of (question, answer) pairs."""

    def score(pairs: Sequence[tuple[str, str]]) -> list[TokenScores]:
        examples = [encode(question, answer) for question, answer in pairs]
        return score_batches(apply_fn, params, examples, **options)

    return score


def check_examples(examples: Sequence[Encoded], batch_size: int) -> None:
    """Raises ValueError for a batch size below 1, and EvaluationError for an example
    that cannot be scored."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    for row, example in enumerate(examples):
        _check_example(row, example)


def _check_example(row: int, example: Encoded) -> None:
    """Refuses an example that has nothing to score or nothing to score it from."""
    ids, labels = np.asarray(example.input_ids), np.asarray(example.labels)
    if ids.ndim != 1 or ids.shape != labels.shape:
        raise EvaluationError(
            f"example {row}: input_ids {ids.shape} and labels {labels.shape} must be "
            "vectors of one length; encode it again"
        )
    if not np.any(labels != IGNORE):
        raise EvaluationError(
            f"example {row} has no labelled token among its {len(ids)}: the answer is "
            "empty or was cut off; raise --max-length or drop the row"
        )
    if labels[0] != IGNORE:
        raise EvaluationError(
            f"example {row}: the first token is labelled, but nothing predicts it; "
            "give the prompt at least one token"
        )


def _plan(
    examples: Sequence[Encoded],
    batch_size: int,
    bucket_lengths: Sequence[int] | None,
) -> Iterator[tuple[list[int], int]]:
    """Yields (row numbers, padded length) of every batch, short lengths first."""
    buckets: dict[int, list[int]] = {}
    for row, example in enumerate(examples):
        length = bucket_length(len(example.input_ids), bucket_lengths)
        buckets.setdefault(length, []).append(row)
    for length, rows in sorted(buckets.items()):
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size], length


def bucket_length(length: int, bucket_lengths: Sequence[int] | None = None) -> int:
    """The smallest bucket that holds `length` tokens; `score_batches` says which are.

    >>> bucket_length(5), bucket_length(33)
    (32, 64)
    """
    if bucket_lengths is None:
        return max(32, 1 << (length - 1).bit_length())
    fitting = [bucket for bucket in bucket_lengths if bucket >= length]
    if not fitting:
        raise EvaluationError(
            f"an example of {length} tokens is longer than every bucket in "
            f"{list(bucket_lengths)}; add a longer bucket or lower --max-length"
        )
    return min(fitting)


def _pad(examples: Sequence[Encoded], batch_size: int, length: int, **options) -> Batch:
    """A right-padded batch of exactly (batch_size, length)."""
    batch = pad_right(examples, length, **options)
    blank = ((0, batch_size - len(examples)), (0, 0))
    # A blank row attends to its padding: no softmax over nothing.
    fill = {"input_ids": options["pad_id"], "labels": IGNORE, "attention_mask": 1}
    pad = lambda name: np.pad(batch[name], blank, constant_values=fill[name])
    return {name: pad(name) for name in batch}


def collected(count: int, batches: Iterable[Scored]) -> list[TokenScores]:
    """The scores of ``count`` examples from their batches.

    Raises:
      EvaluationError: scores that are not finite.
    """
    results: list[TokenScores | None] = [None] * count
    pending = None  # fetch a batch while the device works on the next one
    for batch in batches:
        if pending is not None:
            _collect(results, *pending)
        pending = batch
    if pending is not None:
        _collect(results, *pending)
    return [scores for scores in results if scores is not None]


def _collect(
    results: list[TokenScores | None],
    rows: list[int],
    labels_BxL: np.ndarray,
    outputs: tuple[jax.Array, ...],
) -> None:
    """Cuts the scores of a batch into its rows."""
    arrays = to_host(outputs)
    for i, row in enumerate(rows):
        scored = labels_BxL[i, 1:] != IGNORE
        results[row] = _checked(row, TokenScores(*(x[i][scored] for x in arrays)))


def _checked(row: int, scores: TokenScores) -> TokenScores:
    """The scores, or an error that names their example."""
    if np.all(np.isfinite(scores.log_prob)):
        return scores
    raise EvaluationError(
        f"example {row}: the log-probabilities are not finite (first value "
        f"{scores.log_prob[~np.isfinite(scores.log_prob)][0]}); the model "
        "diverged, or a label lies outside its vocabulary: evaluate an earlier "
        "checkpoint or check the tokenizer"
    )
