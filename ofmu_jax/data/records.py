"""Question-answer records, their JSON files, and what an unlearning request is."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any


class DataError(ValueError):
    """Bad input data. The message names the file, the row, the reason, the remedy."""


@dataclasses.dataclass(frozen=True)
class QA:
    """One question with its answer, and what the evaluation compares it with.

    Attributes:
      question: as asked in training.
      answer: as given in training.
      paraphrased_question: the same question in words never trained on.
      paraphrased_answer: the same fact in other words (numerator of the truth ratio).
      perturbed_answers: wrong answers of the same form (its denominator).
    """

    question: str
    answer: str
    paraphrased_question: str | None = None
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class UnlearningData:
    """A deletion request: what to forget, what to keep, and how to judge the result.

    Attributes:
      name: of the data set and split.
      forget: training rows to be forgotten (never empty).
      retain: training rows to be kept (never empty).
      full: all training rows, in the order of the file the model was trained on.
      forget_eval: forget rows with paraphrased and perturbed answers.
      retain_eval: retain rows with paraphrased and perturbed answers.
      real_authors: general knowledge near the forgotten subject; may be ().
      world_facts: general knowledge far from it; may be ().
      forget_heldout: forgotten facts asked in words never trained on; may be ().
      retain_heldout: kept facts asked in words never trained on; may be ().
      holdout: rows of the same kind that no model has seen (non-members); may be ().
    """

    name: str
    forget: tuple[QA, ...]
    retain: tuple[QA, ...]
    full: tuple[QA, ...]
    forget_eval: tuple[QA, ...] = ()
    retain_eval: tuple[QA, ...] = ()
    real_authors: tuple[QA, ...] = ()
    world_facts: tuple[QA, ...] = ()
    forget_heldout: tuple[QA, ...] = ()
    retain_heldout: tuple[QA, ...] = ()
    holdout: tuple[QA, ...] = ()

    def __post_init__(self) -> None:
        for field in ("forget", "retain", "full"):
            if not getattr(self, field):
                raise DataError(
                    f"{self.name}: the {field} set is empty; give at least one row"
                )


Path = str | os.PathLike[str]


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
      DataError: naming the file, the row (from 1), the reason and the remedy.
    """
    path = pathlib.Path(path)
    keys = {"question": question_key, "answer": answer_key}
    required = [keys.get(name, name) for name in required]
    rows = _parse_rows(path, _read_text(path))
    if not rows:
        raise DataError(f"{path}: the file is empty; it needs at least one row")
    return [_to_qa(path, i, row, required, keys) for i, row in enumerate(rows, 1)]


def _read_text(path: pathlib.Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file in the folder {path.parent}; check the path"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a NUL character in the name
        raise DataError(f"{path!r}: not a file name ({error})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, row {row}: not UTF-8 (byte 0x{content[error.start]:02x}); "
            "save the file with UTF-8 encoding"
        ) from None


def _parse_rows(path: pathlib.Path, text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        rows = _parse_json(path, 1, text, "write one JSON object per line")
        return rows if isinstance(rows, list) else [rows]
    # Not splitlines(): U+2028 and its like are legal inside a JSON string.
    lines = text.rstrip().split("\n") if text.strip() else []
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise DataError(f"{path}, row {number}: blank line; remove it")
        remedy = "every line must hold one whole JSON object"
        rows.append(_parse_json(path, number, line, remedy))
    return rows


def _parse_json(path: pathlib.Path, number: int, text: str, remedy: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:  # huge integers, deep nesting
        reason = str(error)
    raise DataError(f"{path}, row {number}: broken JSON ({reason}); {remedy}")


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
    for field in (*keys.values(), *required):
        if row.get(field) is None:
            found = ", ".join(map(repr, row)) or "none"
            raise DataError(
                f"{where}: field {field!r} is missing (fields found: {found}); "
                "add it or check its spelling"
            )
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


def _checked_text(where: str, field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"{where}: field {field!r} is a JSON {_json_type(value)}, not a string; "
            "put the text in quotes"
        )
    if not value.strip():
        raise DataError(
            f"{where}: field {field!r} is empty; fill it in or remove the row"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: field {field!r} holds half of a surrogate pair (\\ud800-\\udfff)"
            ", which no tokenizer can encode; remove it"
        ) from None
    return value


def _json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "object", list: "array", str: "string"}
    return names.get(type(value), "number")


def _key(row: QA) -> tuple[str, str]:
    """A row's identity: question and answer, spacing and letter case ignored."""
    return " ".join(row.question.split()).casefold(), " ".join(
        row.answer.split()
    ).casefold()


def check_overlap(
    forget: Sequence[QA],
    retain: Sequence[QA],
    allow_overlap: bool = False,
    *,
    forget_source: str = "forget set",
    retain_source: str = "retain set",
) -> None:
    """Refuses rows that are to be forgotten and kept at once.

    Rows are equal if question and answer are, spacing and letter case ignored.
    With ``allow_overlap`` the data is left as given and nothing is checked.

    Raises:
      DataError: naming the first such row (from 1) in both sets.
    """
    if allow_overlap:
        return
    kept = {_key(row): i for i, row in reversed(list(enumerate(retain, 1)))}
    for number, row in enumerate(forget, 1):
        if (other := kept.get(_key(row))) is not None:
            raise DataError(
                f"{forget_source}, row {number}: also in the {retain_source} as row "
                f"{other} (question {row.question!r}); remove it from one of the two, "
                "or pass allow_overlap=True to go on with contradictory targets"
            )


def check_contained(
    rows: Sequence[QA], whole: Sequence[QA], source: str, whole_source: str
) -> None:
    """Refuses a row of ``rows`` that ``whole`` lacks, as sets that do not fit.

    Raises:
      DataError: naming the first such row (from 1).
    """
    known = {_key(row) for row in whole}
    for number, row in enumerate(rows, 1):
        if _key(row) not in known:
            raise DataError(
                f"{source}, row {number}: not in {whole_source} (question "
                f"{row.question!r}); check that the files belong together"
            )


def subtract(whole: Iterable[QA], rows: Iterable[QA]) -> tuple[QA, ...]:
    """The rows of ``whole`` that are not in ``rows``, in order.

    >>> a, b = QA("a?", "A."), QA("b?", "B.")
    >>> subtract([a, b], [a]) == (b,)
    True
    """
    gone = {_key(row) for row in rows}
    return tuple(row for row in whole if _key(row) not in gone)


def heldout_questions(rows: Iterable[QA]) -> tuple[QA, ...]:
    """The rows that have a paraphrased question, asked with it.

    >>> heldout_questions([QA("Who?", "Ann.", paraphrased_question="What name?")])[0]
    ... # doctest: +ELLIPSIS
    QA(question='What name?', answer='Ann.', paraphrased_question=None, ...)
    """
    return tuple(
        dataclasses.replace(
            row, question=row.paraphrased_question, paraphrased_question=None
        )
        for row in rows
        if row.paraphrased_question is not None
    )


def all_texts(data: UnlearningData) -> list[str]:
    """Every question and answer of every set, first occurrences in a fixed order."""
    texts: dict[str, None] = {}
    for field in dataclasses.fields(data):
        rows = getattr(data, field.name)
        if field.name == "name":
            continue
        for row in rows:
            texts.update(dict.fromkeys([row.question, row.answer]))
            others = (row.paraphrased_question, row.paraphrased_answer)
            texts.update(dict.fromkeys(text for text in others if text is not None))
            texts.update(dict.fromkeys(row.perturbed_answers))
    return list(texts)
