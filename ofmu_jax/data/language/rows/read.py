"""Reads rows from whatever people have them in, and says what is wrong with them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from ofmu_jax.data.language.conversations import check_single
from ofmu_jax.data.language.json_lines import (
    check_object,
    check_present,
    checked_text,
    json_type,
    parse_rows,
)
from ofmu_jax.data.language.records import QA, DataError, Path
from ofmu_jax.data.language.rows import columns as names
from ofmu_jax.data.language.rows import hub, messages, tables
from ofmu_jax.data.language.rows.columns import Asked, Form
from ofmu_jax.data.language.rows.source import Source
from ofmu_jax.data.language.rows.tables import Table
from ofmu_jax.data.language.text_files import contents, decoded

Item = TypeVar("Item")


class Read(NamedTuple, Generic[Item]):
    """Rows, and where they come from."""

    rows: tuple[Item, ...]
    source: Source


class Row(NamedTuple):
    """One row before it is checked."""

    where: str  # file and number, for messages
    values: Mapping[str, Any]  # of its columns
    columns: Mapping[str, str]  # field -> column

    def value(self, field: str) -> Any:
        """What the row has in a field; None if that is nothing, or not there."""
        return self.values[self.columns[field]] if field in self.columns else None

    def column(self, field: str) -> str:
        """The name of its column, for messages."""
        return self.columns.get(field, field)

    def check(self, field: str) -> None:
        """Refuses a row that has nothing in a field."""
        check_present(self.where, self.values, self.column(field))

    def text(self, field: str) -> str:
        """The text of a field.

        Raises:
          DataError: it is none that a tokenizer can encode.
        """
        return checked_text(self.where, self.column(field), self.value(field))

    def question(self) -> str:
        """A question, or an instruction with what it is about a line below."""
        about = names.CONTEXT
        texts = [self.text("question")]
        texts += [self.text(about)] if self.value(about) not in (None, "") else []
        return check_single("\n".join(texts), f"{self.where}: the question")


def read_rows(
    place: Path,
    *,
    required: Sequence[str] = ("question", "answer"),
    forms: tuple[Form, ...] = (names.QUESTIONS, names.CHATS),
    columns: Asked | None = None,
) -> Read[QA]:
    """Reads question-answer rows, chats or documents.

    Args:
      place: a file with JSON objects (one a line, or one array), separated values
        (CSV, TSV) or a Parquet table, of text in UTF-8, or as a gzip archive; or a
        data set (`hub.place_of`).
      required: fields that every question must have. Besides question and answer a row
        may carry ``paraphrased_question``, ``paraphrased_answer`` and
        ``perturbed_answer`` (a string or a list of strings).
      forms: kinds of rows that may be there. With `columns.TEXTS` documents are each a
        `QA` of its text after no question.
      columns: of ``--columns`` (`columns.asked`); other names are in `columns.NAMES`.
        None: there is no such option.

    Returns:
      At least one row, in the order of the file.

    Raises:
      DataError: naming the file, the row (from 1, without a header), the reason and
        the remedy. In a JSON array rows are counted as elements.
    """
    like = '{"question": ..., "answer": ...}'
    like += ' or {"text": ...}' if names.TEXTS in forms else ""
    found = read_objects(place, like, forms, columns, _to_qa(required))
    systems: list[str | None] = []
    rows = []
    for number, (row, of_chat) in enumerate(found.rows, 1):
        rows.append(row)
        for system in of_chat:
            before = systems[0] if systems else system
            messages.one_system(f"{place}, row {number}", system, before)
            systems.append(system)
    source = dataclasses.replace(found.source, systems=frozenset(systems))
    return Read(tuple(rows), source)


def read_objects(
    place: Path,
    like: str,
    forms: tuple[Form, ...],
    columns: Asked | None,
    row_of: Callable[[Row], Item],
) -> Read[Item]:
    """The rows of a file or data set, each as ``row_of`` makes it.

    Args:
      like: how a row is written, for messages.
      forms, columns: see `read_rows`.

    Raises:
      DataError: as `read_rows`.
    """
    table = _table(place, forms, columns)
    if table.columns is not None:
        _mapping(str(place), table.columns, forms, columns)
    if not table.rows:
        raise DataError(f"{place}: the file is empty; it needs at least one row")
    rows = list(_rows(place, table, like, forms, columns))
    used, present = {}, {}
    for row in rows:
        used |= row.columns
        present |= dict.fromkeys(row.values)
    unread = tuple(name for name in present if name not in used.values())
    name = hub.label(place)
    source = Source(name, table.kind, len(rows), used, unread)
    return Read(tuple(map(row_of, rows)), source)


def _table(place: Path, forms: tuple[Form, ...], columns: Asked | None) -> Table:
    if (there := hub.place_of(place)) is not None:
        return hub.read(there)
    path = pathlib.Path(place)
    content = contents(path)
    if content.startswith(b"PAR1"):
        return tables.parquet(path, content)
    text = decoded(path, content)
    if (found := tables.separated(path, text, _known(forms, columns))) is not None:
        return found
    kind = "JSON array" if text.lstrip().startswith("[") else "JSON lines"
    return Table(kind, parse_rows(path, text))


def _known(
    forms: tuple[Form, ...], columns: Asked | None
) -> Callable[[tuple[str, ...]], bool]:
    """Whether rows can be read from columns of these names."""

    def known(found: tuple[str, ...]) -> bool:
        try:
            return bool(names.mapping(found, forms, columns))
        except DataError:
            return False

    return known


def _rows(
    place: Path,
    table: Table,
    like: str,
    forms: tuple[Form, ...],
    columns: Asked | None,
) -> Iterator[Row]:
    for number, values in enumerate(table.rows, 1):
        where = f"{place}, row {number}"
        check_object(where, values, like)
        found = _mapping(where, tuple(values), forms, columns)
        if table.kind in tables.SEPARATED.values():
            values = tables.from_cells(where, values, found)
        yield Row(where, values, found)


def _mapping(
    where: str, found: tuple[str, ...], forms: tuple[Form, ...], columns: Asked | None
) -> Mapping[str, str]:
    try:
        return names.mapping(found, forms, columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _to_qa(
    required: Sequence[str],
) -> Callable[[Row], tuple[QA, tuple[str | None, ...]]]:
    """From a row to its `QA`, and the system turn of a chat, if it is one."""

    def made(row: Row) -> tuple[QA, tuple[str | None, ...]]:
        if "text" in row.columns:
            row.check("text")
            return QA("", row.text("text")), ()
        if "messages" in row.columns:
            row.check("messages")
            field, turns = row.column("messages"), row.value("messages")
        else:
            for name in dict.fromkeys((*names.QUESTIONS, *required)):
                row.check(name)
            sides = row.value("question"), row.value("answer")
            if not all(map(messages.are_messages, sides)):
                return _with_others(row, row.question(), row.text("answer")), ()
            field, turns = row.column("question"), [*sides[0], *sides[1]]
        said = messages.chat(row.where, field, turns)
        return _with_others(row, said.question, said.answer), (said.system,)

    return made


def _with_others(row: Row, question: str, answer: str) -> QA:
    """The row with what an evaluation compares it with."""
    wrong = row.value("perturbed_answer")
    wrong = [] if wrong is None else [wrong] if isinstance(wrong, str) else wrong
    field = row.column("perturbed_answer")
    if not isinstance(wrong, list):
        raise DataError(
            f"{row.where}: field {field!r} is a JSON {json_type(wrong)}; "
            "give a string or a list of strings"
        )
    optional = lambda name: row.text(name) if row.value(name) is not None else None
    return QA(
        question=question,
        answer=answer,
        paraphrased_question=optional("paraphrased_question"),
        paraphrased_answer=optional("paraphrased_answer"),
        perturbed_answers=tuple(checked_text(row.where, field, w) for w in wrong),
    )
