"""What a file or data set of rows is, and what was found in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ofmu_jax.data.language.records import DataError, Path, excerpt
from ofmu_jax.data.language.rows import columns as names
from ofmu_jax.data.language.rows import messages


@dataclasses.dataclass(frozen=True)
class Source:
    """A file or data set as it was read.

    Attributes:
      name: of the file, without the folders that it is in.
      kind: of the file, in words.
      rows: how many.
      columns: field -> the column that it was read from.
      unread: all other columns.
      systems: system turns of its chats, which are one; None: chats without.
    """

    name: str
    kind: str
    rows: int
    columns: Mapping[str, str]
    unread: tuple[str, ...] = ()
    systems: frozenset[str | None] = frozenset()

    def in_words(self) -> str:
        """What was found, in a line.

        >>> columns = {"question": "Q", "answer": "answer"}
        >>> Source("rows.csv", "CSV", 2, columns, ("id",)).in_words()
        "rows.csv (CSV, rows: 2): question is 'Q', answer; not read: 'id'"
        """
        of = [k if k == v else f"{k} is {v!r}" for k, v in self.columns.items()]
        said = f"{self.name} ({self.kind}, rows: {self.rows}): {', '.join(of)}"
        for system in filter(None, self.systems):
            said += f", with the system turn {excerpt(system)}"
        others = ", ".join(map(repr, self.unread))
        return f"{said}; not read: {others}" if others else said

    def told(self) -> dict[str, Any]:
        """The same as JSON values, without the text of a turn."""
        described = {"file": self.name, "format": self.kind, "rows": self.rows}
        return described | {"columns": dict(self.columns)}


def check_one_system(place: Path, source: Source, others: Iterable[Source]) -> None:
    """Refuses chats that have another system turn than those of other sources.

    Raises:
      DataError: with both texts.
    """
    for other in others:
        for system in source.systems:
            for before in other.systems:
                messages.one_system(str(place), system, before)


def check_asked(columns: Sequence[str], sources: Iterable[Source]) -> None:
    """Refuses a column of ``--columns`` that none of the sources has.

    Raises:
      DataError: naming it, and what columns there are.
    """
    used = {column for source in sources for column in source.columns.values()}
    others = {column for source in sources for column in source.unread}
    for field, column in names.asked(columns):
        if column not in used:
            raise DataError(
                f"--columns {field}={column}: no file has that column; there are "
                f"{', '.join(map(repr, sorted(used | others)))}"
            )
