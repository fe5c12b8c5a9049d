"""What the rows of a data set are about: their subject, and what of it they tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ofmu_jax.data.language.records import QA, key_of


class Topic(NamedTuple):
    """Of one row."""

    subject: int  # whom it is about
    item: int  # which of the subject's questions or facts, from 0
    attributes: frozenset[str]  # what it tells of the subject; may be empty


@dataclasses.dataclass(frozen=True)
class Topics:
    """Of the rows that are about somebody; others, as world facts, have none.

    Attributes:
      rows: identity of a row (`records.key_of`) -> its topic.
      attributes: names that a request may give, in an order of their own.
      traits: subject -> what makes subjects neighbours, such as "genre: war": two are
        if they share one.
      shared: what those traits are, in words.
    """

    rows: Mapping[tuple[str, str], Topic]
    attributes: Sequence[str]
    traits: Mapping[int, frozenset[str]]
    shared: str

    def of(self, row: QA) -> Topic | None:
        """The topic of a row; None of one that is about nobody."""
        return self.rows.get(key_of(row))

    def subjects(self, rows: Iterable[QA]) -> tuple[int, ...]:
        """Whom the rows are about, each once, in the order of the rows."""
        found = (self.of(row) for row in rows)
        return tuple(dict.fromkeys(t.subject for t in found if t is not None))

    def neighbours(self, subjects: Iterable[int]) -> frozenset[int]:
        """Those that share a trait with one of the subjects; these are left out."""
        chosen = frozenset(subjects)
        near = frozenset().union(*(self.traits.get(s, frozenset()) for s in chosen))
        return frozenset(s for s, has in self.traits.items() if has & near) - chosen
