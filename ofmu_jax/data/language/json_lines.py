"""Reads question-answer rows from JSON files, and says what is wrong with them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from ofmu_jax.data.language.records import QA, DataError, Path
from ofmu_jax.data.language.text_files import (
    check_no_table,
    read_text,
    surrogate_in,
)
from ofmu_jax.data.language.unicode import folded

Row = TypeVar("Row")
_TWICE = object()  # in place of a field's value, where an object has several


def read_json_lines(
    path: Path,
    *,
    required: Sequence[str] = ("question", "answer"),
    question_key: str = "question",
    answer_key: str = "answer",
    texts: bool = False,
) -> list[QA]:
    """Reads question-answer rows: one JSON object a line, or one JSON array.

    Args:
      path: a UTF-8 file. Besides question and answer a row may carry
        ``paraphrased_question``, ``paraphrased_answer`` and ``perturbed_answer``
        (a string or a list of strings); other fields are ignored.
      required: field names that every row must have.
      question_key: the field that holds the question.
      answer_key: the field that holds the answer.
      texts: rows may be documents as well, ``{"text": ...}``: each a `QA` of its text
        after no question.

    Returns:
      At least one row, in the order of the file.

    Raises:
      DataError: naming the file, the row (from 1), the reason and the remedy. In a
        JSON array rows are counted as elements.
    """
    keys = {"question": question_key, "answer": answer_key}
    required = [keys.get(name, name) for name in required]

    def row_of(where: str, row: dict[str, Any]) -> QA:
        if texts and "text" in row and not row.keys() & set(keys.values()):
            return QA("", checked_text(where, "text", row["text"]))
        return _to_qa(where, row, required, keys)

    like = f'{{"{question_key}": ..., "{answer_key}": ...}}'
    return read_objects(path, like + (' or {"text": ...}' if texts else ""), row_of)


def read_objects(
    path: Path, like: str, row_of: Callable[[str, dict[str, Any]], Row]
) -> list[Row]:
    """The rows of a file of JSON objects, one a line or all in one array.

    Args:
      like: how a row is written, for messages.
      row_of: from where a row is and its fields to the row. Numbers are floats, whole
        ones `Whole`; `checked_text` is for strings.

    Raises:
      DataError: as `read_json_lines`.
    """
    path = pathlib.Path(path)
    text = read_text(path)
    check_no_table(path, text)
    rows = _parse_rows(path, text)
    if not rows:
        raise DataError(f"{path}: the file is empty; it needs at least one row")
    found = []
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise DataError(
                f"{where}: a JSON {json_type(row)} where an object is needed; "
                f"write {like}"
            )
        if twice := [field for field, value in row.items() if value is _TWICE]:
            raise DataError(
                f"{where}: field {twice[0]!r} is there more than once; write a row for "
                "each"
            )
        found.append(row_of(where, row))
    return found


def _parse_rows(path: pathlib.Path, text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        return _parse_json(str(path), text, "write one JSON object per line")
    # Not splitlines(): U+2028 and its like are legal inside a JSON string.
    lines = text.rstrip().split("\n") if text.strip() else []
    rows = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, row {number}"
        if not line.strip():
            raise DataError(f"{where}: blank line; remove it")
        remedy = "every line must hold one whole JSON object"
        rows.append(_parse_json(where, line, remedy))
    return rows


class _Constant(NamedTuple):
    """NaN or an infinity: Python writes them, but they are no JSON."""

    name: str


class Whole(NamedTuple):
    """A number without a fraction, as it is written: of any number of digits."""

    digits: str


def _parse_json(where: str, text: str, remedy: str) -> Any:
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


def _to_qa(
    where: str, row: dict[str, Any], required: Sequence[str], keys: dict[str, str]
) -> QA:
    for field in (*keys.values(), *required):
        check_present(where, row, field)
    wrong = row.get("perturbed_answer")
    wrong = [] if wrong is None else [wrong] if isinstance(wrong, str) else wrong
    if not isinstance(wrong, list):
        raise DataError(
            f"{where}: field 'perturbed_answer' is a JSON {json_type(wrong)}; "
            "give a string or a list of strings"
        )
    text = lambda field: checked_text(where, field, row[field])
    optional = lambda field: text(field) if row.get(field) is not None else None
    return QA(
        question=text(keys["question"]),
        answer=text(keys["answer"]),
        paraphrased_question=optional("paraphrased_question"),
        paraphrased_answer=optional("paraphrased_answer"),
        perturbed_answers=tuple(
            checked_text(where, "perturbed_answer", w) for w in wrong
        ),
    )


def check_present(where: str, row: dict[str, Any], field: str) -> None:
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
    return names.get(type(value), "number")
