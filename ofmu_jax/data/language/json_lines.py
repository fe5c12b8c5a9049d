"""Rows of JSON files, and what may be wrong with the values of a row."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.language.text_files import surrogate_in
from ofmu_jax.data.language.unicode import folded

_TWICE = object()  # in place of a field's value, where an object has several


def parse_rows(path: pathlib.Path, text: str) -> list[Any]:
    """The rows of a text: one JSON object a line, or all in one array.

    They may be other values than objects yet. Numbers are floats, whole ones `Whole`.

    Raises:
      DataError: broken JSON, with the file and the row (from 1).
    """
    if text.lstrip().startswith("["):
        return parse_json(str(path), text, "write one JSON object per line")
    # Not splitlines(): U+2028 and its like are legal inside a JSON string.
    lines = text.rstrip().split("\n") if text.strip() else []
    rows = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, row {number}"
        if not line.strip():
            raise DataError(f"{where}: blank line; remove it")
        remedy = "every line must hold one whole JSON object"
        rows.append(parse_json(where, line, remedy))
    return rows


def check_object(where: str, row: Any, like: str) -> None:
    """Refuses what is no object, or has a field twice.

    Args:
      like: how a row is written, for the message.
    """
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: a JSON {json_type(row)} where an object is needed; write {like}"
        )
    if twice := [field for field, value in row.items() if value is _TWICE]:
        raise DataError(
            f"{where}: field {twice[0]!r} is there more than once; write a row for each"
        )


class _Constant(NamedTuple):
    """NaN or an infinity: Python writes them, but they are no JSON."""

    name: str


class Whole(NamedTuple):
    """A number without a fraction, as it is written: of any number of digits."""

    digits: str


def parse_json(where: str, text: str, remedy: str) -> Any:
    """A JSON value; its numbers are floats, whole ones `Whole`.

    Raises:
      DataError: it is broken; ``remedy`` says what to do.
    """
    try:
        return json.loads(
            text,
            parse_int=Whole,
            parse_constant=_Constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        reason = f"{error.msg} at {line}column {error.colno}"
    except RecursionError:
        reason = "nested too deeply"
    raise DataError(f"{where}: broken JSON ({reason}); {remedy}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = _TWICE if name in found else value
    return found


def check_present(where: str, row: Mapping[str, Any], field: str) -> None:
    """Refuses a row without a field, or with nothing in it."""
    if field not in row:
        found = ", ".join(map(repr, row)) or "none"
        raise DataError(
            f"{where}: field {field!r} is missing (fields found: {found}); "
            "add it or check its spelling"
        )
    if row[field] is None or row[field] == []:
        raise DataError(
            f"{where}: field {field!r} is {json.dumps(row[field])}; fill it in or "
            "remove the row"
        )


def checked_text(where: str, field: str, value: Any) -> str:
    """A field's text, if it is one that a tokenizer can encode."""
    if (problem := _problem(value)) is not None:
        raise DataError(f"{where}: field {field!r} {problem}")
    return value


def _problem(value: Any) -> str | None:
    if isinstance(value, _Constant):
        return (
            f"is {value.name}, which is no JSON; write the text, or null where a field "
            "may be left out"
        )
    if not isinstance(value, str):
        return f"is a JSON {json_type(value)}, not a string; put the text in quotes"
    if not folded(value):  # of white space and invisible characters alone
        return "is empty; fill it in or remove the row"
    return surrogate_in(value)


def json_type(value: Any) -> str:
    """What JSON calls a value."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "object", list: "array", str: "string"}
    names |= dict.fromkeys((int, float, Whole, _Constant), "number")
    return names.get(type(value), type(value).__name__)  # of a table: dates, bytes
