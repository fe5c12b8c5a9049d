"""Texts that continue others, in tokens as lm-evaluation-harness makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ofmu_jax.data.language.padding import IGNORE, Encoded
from ofmu_jax.data.language.records import DataError, excerpt


def continued(
    tokenizer: Any, context: str, continuation: str, most: int | None = None
) -> Encoded:
    """A context, no part of which is scored, and its continuation, all of which is.

    As in lm-evaluation-harness the white space that ends the context belongs to the
    continuation, whose tokens are those that both together have more than the context.

    >>> from ofmu_jax.data.language.tokenizer import build_tokenizer
    >>> found = continued(build_tokenizer(["Answer: B"]), "Answer: ", "B")
    >>> found.prompt_length, int((found.labels != IGNORE).sum())
    (3, 1)

    Args:
      most: positions of the model; what is too long loses its beginning.

    Raises:
      DataError: there is no context, or the continuation has no token of its own.
    """
    kept = context.rstrip()
    whole = list(tokenizer(context + continuation)["input_ids"])
    before = list(tokenizer(kept)["input_ids"]) if kept else []
    if not before:
        raise DataError(f"{excerpt(continuation)} has no context; give one")
    return joined(before, whole[len(before) :], most)


def joined(
    context: Sequence[int], continuation: Sequence[int], most: int | None = None
) -> Encoded:
    """The same of token ids.

    Raises:
      DataError: no token to score, or none to score it from.
    """
    if not context or not continuation:
        raise DataError("a context and its continuation need one token each, or more")
    if most is not None and len(continuation) > most:
        raise DataError(
            f"a continuation has {len(continuation)} tokens, more than the {most} "
            "positions of the model; shorten it"
        )
    # The last token is only predicted: it needs no position of its own.
    ids = np.asarray([*context, *continuation], np.int32)
    ids = ids if most is None else ids[-(most + 1) :]
    start = len(ids) - len(continuation)
    labels = np.where(np.arange(len(ids)) < start, IGNORE, ids).astype(np.int32)
    return Encoded(ids, labels, start)
