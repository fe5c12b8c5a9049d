"""Refusals: the answers that preference methods teach in place of what to forget."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from ofmu_jax.data.language.fictitious_facts import REFUSALS as REFUSALS
from ofmu_jax.data.language.records import QA, DataError, Path


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
