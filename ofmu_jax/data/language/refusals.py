"""Refusals: the answers that preference methods teach in place of what to forget."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ofmu_jax.data.language.fictitious_facts import REFUSALS as REFUSALS
from ofmu_jax.data.language.records import QA, DataError, Path, excerpt
from ofmu_jax.data.language.text_files import (
    check_no_table,
    read_text,
    surrogate_in,
)

_ARRAY = re.compile(r"\s*\[\s*([\[\]{\"]|$)")  # not "[withheld]", which is a text


def read_refusals(path: Path) -> tuple[str, ...]:
    """Refusals from a file, one a line; blank lines are passed over.

    A line is a text, or JSON: a text in quotes, or an object whose one field is the
    text. One JSON array of these in a file is read too.

    Raises:
      DataError: no such file, not UTF-8, JSON that is broken or holds something else,
        or nothing in it.
    """
    path = pathlib.Path(path)
    text = read_text(path)
    check_no_table(path, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(line.startswith("{") for line in lines) or _ARRAY.match(text):
        found = [_refusal(f"{path}, row {i}", v) for i, v in _json_rows(path, text)]
    else:
        found = [_unquoted(path, line) for line in lines]
    if not found:
        raise DataError(f"{path}: holds no refusal; write one per line")
    return tuple(found)


def _json_rows(path: pathlib.Path, text: str) -> list[tuple[int, Any]]:
    """(number of the line, value) of JSON lines; of an array, of its elements."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return list(enumerate(whole if isinstance(whole, list) else [whole], 1))
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line)))
        except (ValueError, RecursionError):
            raise DataError(
                f"{path}, row {number}: no JSON, where other lines are JSON objects; "
                "write plain text alone, or JSON alone"
            ) from None
    return rows


def _refusal(where: str, value: Any) -> str:
    if isinstance(value, dict):
        texts = [text for text in value.values() if isinstance(text, str)]
        if len(texts) != 1:
            fields = ", ".join(map(repr, value)) or "none"
            raise DataError(
                f"{where}: an object with {len(texts)} text fields, where one is "
                f'needed (fields found: {fields}); write {{"refusal": ...}}'
            )
        value = texts[0]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: holds no text; write a text, or an object with one")
    if (problem := surrogate_in(value)) is not None:
        raise DataError(f"{where}: {problem}")
    return value.strip()


def _unquoted(path: pathlib.Path, line: str) -> str:
    """The text of a JSON string; other lines as they are."""
    if line.startswith('"'):
        try:
            value = json.loads(line.removesuffix(","))
        except ValueError:  # a text that begins with a quotation
            return line
        if line.endswith(","):
            raise DataError(
                f"{path}: {excerpt(line)} ends like an entry of a JSON array; put all "
                "in brackets, or remove the commas"
            )
        if isinstance(value, str) and value.strip():
            return value.strip()
    return line


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
