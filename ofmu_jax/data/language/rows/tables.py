"""Tables as rows: separated values (CSV, TSV) and Parquet."""

from __future__ import annotations

import csv
import io
import math
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ofmu_jax.data.language.json_lines import Whole, parse_json
from ofmu_jax.data.language.records import DataError

SEPARATED = {".csv": "CSV", ".tsv": "TSV"}
# Fields that a cell of text holds as a JSON array, and how one begins.
_ARRAYS = ("choices", "messages", "perturbed_answer")
_ARRAY = re.compile(r"\s*\[\s*([\[\]{\"'\d]|$)")  # not "[withheld]", which is a text


class Table(NamedTuple):
    """Rows before anything is known of their fields."""

    kind: str  # of the file, in words
    rows: list[Any]  # as JSON values
    columns: tuple[str, ...] | None = None  # of every row; None: each has its own


def separated(
    path: pathlib.Path, text: str, known: Callable[[tuple[str, ...]], bool]
) -> Table | None:
    """The rows of a text with a header and separated values; None: it is none.

    It is one by its name (``.csv``, ``.tsv``), or if its header is known, but for what
    begins as JSON does. Empty cells are absent values, empty lines no rows.

    Args:
      known: whether rows can be read from such columns.

    Raises:
      DataError: broken quoting, a row of another length than the header, or a column
        that is there twice.
    """
    start = text.lstrip()
    if not start or start[0] in "{[":
        return None
    first = start.splitlines()[0]
    suffix = [s for s in path.suffixes if s.lower() != ".gz"][-1:]
    named = SEPARATED.get("".join(suffix).lower())
    delimiter = max("\t,;" if named == "TSV" else ",;\t", key=first.count)
    csv.field_size_limit(sys.maxsize)  # documents are longer than csv's own limit
    header = next(csv.reader([first], delimiter=delimiter))
    if named is None and not known(tuple(header)):
        return None
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    cells = _cells(path, lines)
    header = next(cells)
    if twice := [name for name in header if header.count(name) > 1 and name]:
        raise DataError(
            f"{path}: column {twice[0]!r} is there more than once; rename one"
        )
    rows = []
    for number, row in enumerate(cells, 1):
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {number}: {len(row)} cells, and the header has "
                f"{len(header)}; quote what holds the separator {delimiter!r}"
            )
        rows.append({k: cell or None for k, cell in zip(header, row, strict=True)})
    return Table(named or ("TSV" if delimiter == "\t" else "CSV"), rows, tuple(header))


def _cells(path: pathlib.Path, lines: Iterator[list[str]]) -> Iterator[list[str]]:
    """The lines that are not empty, the header first."""
    number = 0
    try:
        for cells in lines:
            if any(map(str.strip, cells)):
                yield cells
                number += 1
    except csv.Error as error:
        raise DataError(
            f"{path}, row {number}: no separated values ({error}); quote cells that "
            'hold a quote, a separator or a line break, and double a quote ("")'
        ) from None


def from_cells(
    where: str, row: Mapping[str, Any], names: Mapping[str, str]
) -> Mapping[str, Any]:
    """A row of separated values with what its texts stand for: JSON arrays, and of
    multiple choice the place of the right answer.

    Args:
      names: field -> column.
    """
    changed: dict[str, Any] = {}
    for field in names.keys() & {*_ARRAYS}:
        cell = row[names[field]]
        if isinstance(cell, str) and _ARRAY.match(cell):
            remedy = f"field {names[field]!r} must be one JSON array"
            changed[names[field]] = parse_json(where, cell, remedy)
    if "choices" in names and "answer" in names:
        cell = row[names["answer"]]
        if isinstance(cell, str) and cell.strip().isdecimal():
            changed[names["answer"]] = Whole(cell.strip())
    return {**row, **changed}


def parquet(path: pathlib.Path, content: bytes) -> Table:
    """The rows of a Parquet file.

    Raises:
      DataError: pyarrow is not installed, or cannot read it.
    """
    try:
        import pyarrow
        from pyarrow import parquet as reader
    except ImportError:
        raise DataError(
            f"{path}: this is a Parquet table, which needs pyarrow; install it "
            "(pip install pyarrow, or the extra parquet)"
        ) from None
    try:
        table = reader.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: a Parquet table that cannot be read ({reason}); write it again"
        ) from None
    return Table("Parquet", plain(table.to_pylist()), tuple(table.column_names))


def plain(value: Any) -> Any:
    """A value of a table as one of JSON: whole numbers `Whole`, NaN absent."""
    match value:
        case bool():
            return value
        case int():
            return Whole(str(value))
        case float() if math.isnan(value):  # as pandas writes an absent one
            return None
        case list() | tuple():
            return [plain(each) for each in value]
        case dict():
            return {name: plain(each) for name, each in value.items()}
    return value
