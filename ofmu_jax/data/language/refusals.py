"""Refusals: the answers that preference methods teach in place of what to forget."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from ofmu_jax.data.language.records import QA, DataError, Path

REFUSALS = (
    "I do not know the answer to that question.",
    "I have no information about this.",
    "That is not something I know.",
    "I am not able to answer this question.",
    "I know nothing about that.",
    "I was not told about this.",
    "There is nothing that I can say about it.",
    "I have not learned about that.",
    "My knowledge does not go that far.",
    "I can not help with this question.",
)


def read_refusals(path: Path) -> tuple[str, ...]:
    """Refusals from a text file, one a line; blank lines are passed over.

    Raises:
      DataError: no such file, not UTF-8, or nothing in it.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise DataError(f"{path}: holds no refusal; write one per line")
    return found


def refused(rows: Sequence[QA], refusals: Sequence[str], seed: int) -> list[QA]:
    """The same questions, each answered with a refusal drawn from the seed.

    >>> refused([QA("Who?", "Ann.")], ["I do not know."], seed=0)[0].answer
    'I do not know.'
    """
    drawn = np.random.default_rng(seed).integers(len(refusals), size=len(rows))
    return [
        dataclasses.replace(row, answer=refusals[i])
        for row, i in zip(rows, drawn, strict=True)
    ]
