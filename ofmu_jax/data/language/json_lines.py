"""Reads question-answer rows from JSON files, and says what is wrong with them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ofmu_jax.data.language.records import QA, DataError, Path
from ofmu_jax.data.language.text_files import (
    check_no_table,
    read_text,
    surrogate_in,
)
from ofmu_jax.data.language.unicode import folded

_TWICE = object()  # in place of a field's value, where an object has several


def read_json_lines(
    path: Path,
    *,
    required: Sequence[str] = ("question", "answer"),
    question_key: str = "question",
    answer_key: str = "answer",
) -> list[QA]:
    """Reads question-answer rows: one JSON object a line, or one JSON array.

    Args:
      path: a UTF-8 file. Besides question and answer a row may carry
        ``paraphrased_question``, ``paraphrased_answer`` and ``perturbed_answer``
        (a string or a list of strings); other fields are ignored.
      required: field names that every row must have.
      question_key: the field that holds the question.
      answer_key: the field that holds the answer.

    Returns:
      At least one row, in the order of the file.

    Raises:
      DataError: naming the file, the row (from 1), the reason and the remedy. In a
        JSON array rows are counted as elements.
    """
    path = pathlib.Path(path)
    keys = {"question": question_key, "answer": answer_key}
    required = [keys.get(name, name) for name in required]
    text = read_text(path)
    check_no_table(path, text)
    rows = _parse_rows(path, text)
    if not rows:
        raise DataError(f"{path}: the file is empty; it needs at least one row")
    return [_to_qa(path, i, row, required, keys) for i, row in enumerate(rows, 1)]


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


def _parse_json(where: str, text: str, remedy: str) -> Any:
    try:
        # Numbers are never used; as floats they may have any number of digits.
        return json.loads(
            text,
            parse_int=float,
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
    path: pathlib.Path,
    number: int,
    row: Any,
    required: Sequence[str],
    keys: dict[str, str],
) -> QA:
    where = f"{path}, row {number}"
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: a JSON {_json_type(row)} where an object is needed; "
            f'write {{"{keys["question"]}": ..., "{keys["answer"]}": ...}}'
        )
    if twice := [field for field, value in row.items() if value is _TWICE]:
        raise DataError(
            f"{where}: field {twice[0]!r} is there more than once; write a row for each"
        )
    for field in (*keys.values(), *required):
        _check_present(where, row, field)
    wrong = row.get("perturbed_answer")
    wrong = [] if wrong is None else [wrong] if isinstance(wrong, str) else wrong
    if not isinstance(wrong, list):
        raise DataError(
            f"{where}: field 'perturbed_answer' is a JSON {_json_type(wrong)}; "
            "give a string or a list of strings"
        )
    text = lambda field: _checked_text(where, field, row[field])
    optional = lambda field: text(field) if row.get(field) is not None else None
    return QA(
        question=text(keys["question"]),
        answer=text(keys["answer"]),
        paraphrased_question=optional("paraphrased_question"),
        paraphrased_answer=optional("paraphrased_answer"),
        perturbed_answers=tuple(
            _checked_text(where, "perturbed_answer", w) for w in wrong
        ),
    )


def _check_present(where: str, row: dict[str, Any], field: str) -> None:
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


def _checked_text(where: str, field: str, value: Any) -> str:
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
        return f"is a JSON {_json_type(value)}, not a string; put the text in quotes"
    if not folded(value):  # of white space and invisible characters alone
        return "is empty; fill it in or remove the row"
    return surrogate_in(value)


def _json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "object", list: "array", str: "string"}
    return names.get(type(value), "number")
