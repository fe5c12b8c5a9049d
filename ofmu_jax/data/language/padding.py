"""Encoded examples and how they are stacked: padding, labels, attention masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ofmu_jax.data.language.records import DataError

IGNORE = -100  # label of a position that is not scored
PAD_MULTIPLE = 8  # lengths are rounded up to it, so that few shapes are compiled

Batch = dict[str, Any]  # arrays with one entry per row, or dicts of them
InteriorEot = Literal["correct", "compat"]


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A tokenised question with its answer.

    Attributes:
      input_ids: prompt, answer and end-of-sequence. int32[L]
      labels: `input_ids` where scored, -100 on the prompt. int32[L]
      prompt_length: number of prompt ids.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    prompt_length: int

    def __len__(self) -> int:
        return len(self.input_ids)


def pad_id_of(tokenizer: Any, declared_stops: Sequence[int] = ()) -> int:
    """Id to pad with: the tokenizer's own, else an end-of-sequence id.

    Masks are made from lengths, so sharing the id hides no real token.

    Args:
      declared_stops: end-of-sequence ids of the generation config.
    """
    for pad_id in (tokenizer.pad_token_id, tokenizer.eos_token_id, *declared_stops):
        if pad_id is not None:
            return pad_id
    raise DataError(
        f"the tokenizer {tokenizer.name_or_path!r} has neither a padding nor an "
        "end-of-sequence token; set pad_token in tokenizer_config.json"
    )


def padded_length(examples: Sequence[Any], multiple: int = PAD_MULTIPLE) -> int:
    """Length of the longest example, rounded up to ``multiple``.

    >>> padded_length([range(3), range(9)])
    16
    """
    return -(-max(map(len, examples)) // multiple) * multiple


def pad_right(
    examples: Sequence[Encoded],
    length: int | None = None,
    *,
    pad_id: int,
    interior_eot: InteriorEot = "correct",
    eot_id: int | None = None,
) -> Batch:
    """Stacks examples for scoring and training.

    Args:
      examples: at least one.
      length: L; default: that of the longest, rounded up to a multiple of 8.
      pad_id: id at the padded positions.
      interior_eot: "correct" hides only padding from attention. "compat" hides every
        position that holds ``eot_id``, as open-unlearning does for tokenizers that
        pad with the end-of-turn token, so that turn ends inside the prompt vanish.
      eot_id: the id hidden by "compat"; default: ``pad_id``.

    Returns:
      ``{"input_ids", "labels", "attention_mask"}``, each int32 (B, L); labels are -100
      where not scored, the mask is 1 where a key may be attended.
    """
    ids = [example.input_ids for example in examples]
    batch = _stacked(ids, length, pad_id, interior_eot, eot_id)
    labels = np.full_like(batch["input_ids"], IGNORE)
    for row, example in zip(labels, examples, strict=True):
        row[: len(example)] = example.labels
    return {
        "input_ids": batch["input_ids"],
        "labels": labels,
        "attention_mask": batch["attention_mask"],
    }


def pad_left(
    prompts: Sequence[np.ndarray],
    length: int | None = None,
    *,
    pad_id: int,
    interior_eot: InteriorEot = "correct",
    eot_id: int | None = None,
) -> Batch:
    """Stacks prompts so that all end together, for generation.

    Arguments as in `pad_right`. Returns ``{"input_ids", "attention_mask"}``, int32
    (B, L).
    """
    return _stacked(prompts, length, pad_id, interior_eot, eot_id, left=True)


def attended(
    ids: np.ndarray,
    *,
    pad_id: int,
    interior_eot: InteriorEot = "correct",
    eot_id: int | None = None,
) -> np.ndarray:
    """The ids of a prompt that are attended to, for generation: as if the others were
    not there. Arguments as in `pad_right`.

    >>> attended(np.array([5, 2, 7]), pad_id=2, interior_eot="compat").tolist()
    [5, 7]
    """
    (row,), (mask,) = _stacked([ids], len(ids), pad_id, interior_eot, eot_id).values()
    return row[mask == 1]


def _stacked(
    rows: Sequence[np.ndarray],
    length: int | None,
    pad_id: int,
    interior_eot: InteriorEot,
    eot_id: int | None,
    left: bool = False,
) -> Batch:
    """``{"input_ids", "attention_mask"}`` of the rows, padded on one side."""
    if not len(rows):
        raise DataError("no examples to pad; give at least one")
    if interior_eot not in ("correct", "compat"):
        raise DataError(
            f"interior_eot is {interior_eot!r}; choose 'correct' or 'compat'"
        )
    longest = max(map(len, rows))
    length = padded_length(rows) if length is None else length
    if longest > length:
        raise DataError(
            f"an example has {longest} tokens, more than length={length}; raise length"
        )
    input_ids = np.full((len(rows), length), pad_id, np.int32)
    mask = np.zeros_like(input_ids)
    for i, row in enumerate(rows):
        start = length - len(row) if left else 0
        input_ids[i, start : start + len(row)] = row
        mask[i, start : start + len(row)] = 1
    if interior_eot == "compat":
        mask[input_ids == (pad_id if eot_id is None else eot_id)] = 0
    return {"input_ids": input_ids, "attention_mask": mask}
