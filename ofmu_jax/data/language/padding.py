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


def pad_id_of(tokenizer: Any) -> int:
    """Id to pad with: the tokenizer's own, else its end-of-sequence id.

    Masks are made from lengths, so sharing the id hides no real token.
    """
    for pad_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if pad_id is not None:
            return pad_id
    raise DataError(
        f"the tokenizer {tokenizer.name_or_path!r} has neither a padding nor an "
        "end-of-sequence token; set tokenizer.pad_token"
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
    length = _check_length(examples, length)
    shape = (len(examples), length)
    input_ids = np.full(shape, pad_id, np.int32)
    labels = np.full(shape, IGNORE, np.int32)
    mask = np.zeros(shape, np.int32)
    for i, example in enumerate(examples):
        input_ids[i, : len(example)] = example.input_ids
        labels[i, : len(example)] = example.labels
        mask[i, : len(example)] = 1
    mask = _hide_eot(mask, input_ids, interior_eot, pad_id, eot_id)
    return {"input_ids": input_ids, "labels": labels, "attention_mask": mask}


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
    length = _check_length(prompts, length)
    shape = (len(prompts), length)
    input_ids = np.full(shape, pad_id, np.int32)
    mask = np.zeros(shape, np.int32)
    for i, prompt in enumerate(prompts):
        start = length - len(prompt)
        input_ids[i, start:] = prompt
        mask[i, start:] = 1
    mask = _hide_eot(mask, input_ids, interior_eot, pad_id, eot_id)
    return {"input_ids": input_ids, "attention_mask": mask}


def _check_length(examples: Sequence[Any], length: int | None) -> int:
    if not len(examples):
        raise DataError("no examples to pad; give at least one")
    longest = max(map(len, examples))
    if length is not None and longest > length:
        raise DataError(
            f"an example has {longest} tokens, more than length={length}; raise length"
        )
    return padded_length(examples) if length is None else length


def _hide_eot(
    mask: np.ndarray,
    input_ids: np.ndarray,
    interior_eot: InteriorEot,
    pad_id: int,
    eot_id: int | None,
) -> np.ndarray:
    if interior_eot == "correct":
        return mask
    if interior_eot != "compat":
        raise DataError(
            f"interior_eot is {interior_eot!r}; choose 'correct' or 'compat'"
        )
    return mask * (input_ids != (pad_id if eot_id is None else eot_id)).astype(np.int32)
