"""Question-answer records, and what an unlearning request is.

They are read from files in `ofmu_jax.data.language.json_lines`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ofmu_jax.data.language.unicode import folded

Path = str | os.PathLike[str]
BETWEEN = "\x1e"  # two turns of a question that is a conversation (`conversations`)


class DataError(ValueError):
    """Bad input data. The message names the file, the row, the reason, the remedy."""


@dataclasses.dataclass(frozen=True)
class QA:
    """One question with its answer, and what the evaluation compares it with.

    A document is one as well: its text after no question (`is_text`).

    Attributes:
      question: as asked in training; "" before a document.
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

    @property
    def is_text(self) -> bool:
        """Whether this is a document: files of questions have no empty ones."""
        return not self.question

    @property
    def excerpt(self) -> str:
        """The row for a message."""
        kind, text = (
            ("text", self.answer) if self.is_text else ("question", self.question)
        )
        return f"{kind} {excerpt(text)}"


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
      pretraining: rows of the same kind, outside the request, that a model trained
        from scratch may learn the language from beforehand; may be ().
      adjacent: retain rows that lie close to what is forgotten; (): none is known to.
      adjacent_eval: those that are scored on their own, with paraphrased and
        perturbed answers where there are any; may be ().
      adjacent_heldout: these facts asked in words never trained on; may be ().
      request: what kind of request it is, see `requests.entangled`.
      exam: multiple choice that models are asked as well (`kinds.choices.Exam`); None:
        none.
      sources: what a set was read from -> how (`rows.source.Source`), of files of one's
        own.
      topics: what the rows are about (`requests.topics.Topics`), found out when it is
        called; None: nothing says so.
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
    pretraining: tuple[QA, ...] = ()
    adjacent: tuple[QA, ...] = ()
    adjacent_eval: tuple[QA, ...] = ()
    adjacent_heldout: tuple[QA, ...] = ()
    request: str = "whole"
    exam: Any = None
    sources: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    topics: Callable[[], Any] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        for field in ("forget", "retain", "full"):
            if not getattr(self, field):
                raise DataError(
                    f"{self.name}: the {field} set is empty; give at least one row"
                )

    @property
    def documents(self) -> bool:
        """Whether the training rows are documents, or blocks of them."""
        return self.forget[0].is_text

    @property
    def system(self) -> str | None:
        """The system turn of the rows, where these are chats that have one."""
        return next((s for of in self.sources.values() for s in of.systems if s), None)


def key_of(row: QA) -> tuple[str, str]:
    """A row's identity: question and answer, as `folded`."""
    return folded(row.question), folded(row.answer)


def _folded_field(value: Any) -> Any:
    if isinstance(value, str):
        return folded(value)
    return None if value is None else tuple(map(folded, value))


def excerpt(text: str, most: int = 80) -> str:
    """A quotation short enough for a message.

    >>> excerpt("Who?"), excerpt("Who is it?", most=6)
    ("'Who?'", "'Who is…'")
    """
    text = text.replace(BETWEEN, " → ")
    return repr(text if len(text) <= most else text[:most] + "…")


def check_overlap(
    forget: Sequence[QA],
    retain: Sequence[QA],
    allow_overlap: bool = False,
    *,
    forget_source: str = "forget set",
    retain_source: str = "retain set",
) -> None:
    """Refuses rows that are to be forgotten and kept at once.

    Rows are equal if question and answer are, as `unicode.folded` writes them.
    With ``allow_overlap`` the data is left as given and nothing is checked.

    Raises:
      DataError: naming the first such row (from 1) in both sets.
    """
    common = None if allow_overlap else _first_common(forget, retain)
    if common is not None:
        number, other = common
        raise DataError(
            f"{forget_source}, row {number}: also in the {retain_source} as row "
            f"{other} ({forget[number - 1].excerpt}); remove it "
            "from one of the two, or go on with contradictory targets "
            "(--allow-overlap)"
        )


def check_distinct(rows: Sequence[QA], source: str) -> None:
    """Refuses a row that comes twice, in all its fields, as `unicode.folded` writes
    them.

    Raises:
      DataError: naming the second of the two (from 1).
    """
    first: dict[tuple[Any, ...], int] = {}
    for number, row in enumerate(rows, 1):
        key = tuple(map(_folded_field, dataclasses.astuple(row)))
        if (other := first.setdefault(key, number)) != number:
            raise DataError(
                f"{source}, row {number}: the same as row {other} "
                f"({row.excerpt}); remove one of the two"
            )


def check_unseen(
    holdout: Sequence[QA],
    full: Sequence[QA],
    allow_overlap: bool = False,
    *,
    source: str = "holdout set",
) -> None:
    """Refuses a row that counts as never seen although it is a training row.

    Membership inference compares forgotten rows with ones that no model has seen;
    a training row among these would make it look blind.

    Raises:
      DataError: naming the first such row (from 1).
    """
    common = None if allow_overlap else _first_common(holdout, full)
    if common is not None:
        raise DataError(
            f"{source}, row {common[0]}: a training row, where rows that no model has "
            f"seen are needed ({holdout[common[0] - 1].excerpt}); "
            "remove it from the holdout file, or go on with biased membership scores "
            "(--allow-overlap)"
        )


def _first_common(rows: Sequence[QA], others: Sequence[QA]) -> tuple[int, int] | None:
    """The first row of ``rows`` that ``others`` has too: its number in both."""
    known = {key_of(row): i for i, row in reversed(list(enumerate(others, 1)))}
    for number, row in enumerate(rows, 1):
        if (other := known.get(key_of(row))) is not None:
            return number, other
    return None


def check_contained(
    rows: Sequence[QA], whole: Sequence[QA], source: str, whole_source: str
) -> None:
    """Refuses a row of ``rows`` that ``whole`` lacks, as sets that do not fit.

    Raises:
      DataError: naming the first such row (from 1).
    """
    known = {key_of(row) for row in whole}
    for number, row in enumerate(rows, 1):
        if key_of(row) not in known:
            raise DataError(
                f"{source}, row {number}: not in {whole_source} "
                f"({row.excerpt}); check that the files belong together"
            )


def check_one_kind(sets: Mapping[str, Sequence[QA]]) -> None:
    """Refuses questions beside documents: one run has one way to put them to a model.

    Args:
      sets: from where rows are from to the rows.

    Raises:
      DataError: naming the first row (from 1) of another kind than the very first.
    """
    rows = (
        (source, i, row) for source, of in sets.items() for i, row in enumerate(of, 1)
    )
    first = next(rows, None)
    for source, number, row in rows:
        if first is not None and row.is_text != first[2].is_text:
            kinds = ("a question", "a text")
            raise DataError(
                f"{source}, row {number}: {kinds[row.is_text]}, and {first[0]} has "
                f"{kinds[first[2].is_text]} first; give all rows in one of both "
                "forms"
            )


def subtract(whole: Iterable[QA], rows: Iterable[QA]) -> tuple[QA, ...]:
    """The rows of ``whole`` that are not in ``rows``, in order.

    >>> a, b = QA("a?", "A."), QA("b?", "B.")
    >>> subtract([a, b], [a]) == (b,)
    True
    """
    gone = {key_of(row) for row in rows}
    return tuple(row for row in whole if key_of(row) not in gone)


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
