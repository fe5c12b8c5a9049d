"""Scores of answers to prompts that are read once each, however many answers they have.

A question of TOFU has seven texts to score behind one prompt. Prompts are read some at
a time, their texts follow in batches of about one length, and logits are made for what
follows the prompt alone, those of few tokens at a time.

Suffixes: P prompts, L their length, R texts, S their length, D model size, V words.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax._trees import by_columns
from ofmu_jax.data.language.padding import IGNORE, Batch, Encoded, pad_right
from ofmu_jax.evals.language.scores import (
    Scored,
    TokenScores,
    check_examples,
    collected,
    logit_scores,
)
from ofmu_jax.parallel.sharding import put

SHORTEST = 16  # that texts are padded to
TOKENS = 256  # whose logits are there at once
FEWEST = 8  # rows that a batch is not made smaller than


@dataclasses.dataclass(frozen=True)
class PromptedModel:
    """A model that reads prompts first. It keys the compilation cache.

    Attributes:
      read: (params, ids_PxL, mask_PxL, lengths_P) -> prompts, padded on the right.
      follow: (params, prompts, owner_R, ids_RxS, mask_RxS) -> the hidden states
        (R, S, D) of texts, each behind its prompt, and the matrix (V, D) that makes
        logits of them.
    """

    read: Callable[..., Any]
    follow: Callable[..., tuple[jax.Array, jax.Array]]


class Text(NamedTuple):
    """What follows a prompt: its last token, and what is scored."""

    row: int  # of the example
    prompt: int  # number among the prompts that are read together
    encoded: Encoded


def score_answers(
    model: PromptedModel,
    params,
    examples: Sequence[Encoded],
    *,
    batch_size: int = 64,
    pad_id: int = 0,
    sharding: jax.sharding.Sharding | None = None,
    before_batch: Callable[[], None] = lambda: None,
    **padding,
) -> list[TokenScores]:
    """What `score_batches` gives for the same examples, in less time.

    Args:
      batch_size: prompts that are read at once, and texts that follow at once.
      sharding: where to put the rows of both; their number is ``batch_size`` then.
      before_batch: may raise, to end it before the next batch.
      padding: ``interior_eot`` and ``eot_id``, as ``pad_id`` in `score_batches`.

    Raises:
      EvaluationError: an example cannot be scored, or its scores are not finite.
    """
    check_examples(examples, batch_size)

    blocks = list(_blocks(examples, batch_size))
    # One shape of prompts, and one number of texts, for all: few programs to compile.
    most = lambda rows: fitted(max(map(len, rows), default=1), batch_size)
    prompts_P, texts_R = (
        batch_size if sharding else most(rows)
        for rows in ([x for x, _ in blocks], [x for _, x in blocks])
    )
    width = max((len(x) for prompts, _ in blocks for x in prompts), default=1)

    def arrays(
        rows: Sequence[Encoded], numbers: Sequence[int], count: int, length: int
    ) -> Batch:
        before_batch()
        batch = pad_right(rows, length, pad_id=pad_id, **padding)
        batch |= {"numbers": np.asarray(numbers, np.int32)}
        blank = count - len(rows)
        padded = {
            name: np.pad(x, [(0, blank)] + [(0, 0)] * (x.ndim - 1))
            for name, x in batch.items()
        }
        return {k: put(x, sharding) if sharding else x for k, x in padded.items()}

    def batches() -> Iterator[Scored]:
        for prompts, texts in blocks:
            owned = [len(prompt) for prompt in prompts]
            batch = arrays(prompts, owned, prompts_P, wide(width))
            read = _read(model, params, batch)
            for start in range(0, len(texts), batch_size):
                chosen = texts[start : start + batch_size]
                rows = [x.encoded for x in chosen]
                length = bucket(max(map(len, rows)))
                batch = arrays(rows, [x.prompt for x in chosen], texts_R, length)
                outputs = _score(model, params, read, batch)
                yield [x.row for x in chosen], batch["labels"], outputs

    return collected(len(examples), batches())


def fitted(count: int, most: int) -> int:
    """Rows of a batch for ``count`` of them: ``most``, or a quarter of a quarter of it.

    >>> fitted(64, 64), fitted(20, 64), fitted(9, 64), fitted(1, 64)
    (64, 64, 16, 16)
    """
    size = most
    while size % 4 == 0 and size // 4 >= max(count, FEWEST):
        size //= 4
    return size


def wide(length: int) -> int:
    """The length that prompts are padded to: 32, 64, 128, …"""
    return max(2 * SHORTEST, 1 << max(length - 1, 0).bit_length())


def bucket(length: int) -> int:
    """The length that texts are padded to: 16, 24, 32, 48, 64, 96, …

    >>> bucket(3), bucket(17), bucket(25), bucket(64)
    (16, 24, 32, 64)
    """
    power = max(SHORTEST, 1 << max(length - 1, 0).bit_length())
    return power * 3 // 4 if length <= power * 3 // 4 and power > SHORTEST else power


def _blocks(
    examples: Sequence[Encoded], most: int
) -> Iterator[tuple[list[Encoded], list[Text]]]:
    """Prompts that are read together, short ones first, and all their texts by length.

    The last token of a prompt predicts what is scored, so it belongs to the texts.
    """
    owners: dict[bytes, list[int]] = {}
    starts = [int(np.argmax(x.labels != IGNORE)) - 1 for x in examples]
    for row, (start, x) in enumerate(zip(starts, examples, strict=True)):
        owners.setdefault(x.input_ids[:start].tobytes(), []).append(row)
    groups = sorted(owners.values(), key=lambda rows: starts[rows[0]])
    for begin in range(0, len(groups), most):
        block = groups[begin : begin + most]
        texts = [
            Text(row, number, _cut(examples[row], starts[row], None))
            for number, rows in enumerate(block)
            for row in rows
        ]
        prompts = [_cut(examples[rows[0]], 0, starts[rows[0]]) for rows in block]
        yield prompts, sorted(texts, key=lambda text: -len(text.encoded))


def _cut(example: Encoded, start: int, end: int | None) -> Encoded:
    return Encoded(example.input_ids[start:end], example.labels[start:end], 1)


@functools.partial(jax.jit, static_argnums=0)
def _read(model: PromptedModel, params, batch: Batch):
    ids, mask = batch["input_ids"], batch["attention_mask"]
    return model.read(params, ids, mask, batch["numbers"])


@functools.partial(jax.jit, static_argnums=0)
def _score(
    model: PromptedModel, params, prompts, batch: Batch
) -> tuple[jax.Array, ...]:
    """As `token_scores`, with the logits of some columns of the batch at once."""
    labels_RxS = batch["labels"][:, 1:]
    hidden, head = model.follow(
        params, prompts, batch["numbers"], batch["input_ids"], batch["attention_mask"]
    )
    rows, length = labels_RxS.shape
    target_RxS = jnp.where(labels_RxS == IGNORE, 0, labels_RxS)

    def part(hidden_RxCxD, target_RxC):
        logits = jnp.einsum(
            "rcd,vd->rcv",
            hidden_RxCxD,
            head.astype(hidden.dtype),
            preferred_element_type=jnp.float32,
        )
        return logit_scores(logits, target_RxC)

    columns = min(length, max(1, TOKENS // rows))
    return by_columns(part, (hidden[:, :-1], target_RxS), columns)
