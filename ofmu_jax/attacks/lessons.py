"""Lessons: what a model under attack is taught, and which rows are scored after it."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ofmu_jax.attacks.base import Attacked, Progress, Rows, probabilities, unaided
from ofmu_jax.attacks.fine_tuning import Recipe, trained
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA, key_of
from ofmu_jax.evals.language.scores import EvaluationError


class Lesson(NamedTuple):
    """One training: what is taught, how, and which rows are scored when."""

    taught: Sequence[Encoded]
    recipe: Recipe
    looks: Sequence[int]  # updates, ascending
    scored: np.ndarray  # indices of the scored rows; shape (n,)


class Learned(NamedTuple):
    """What lessons left of N scored rows."""

    before: np.ndarray  # (N,): of the model as it was
    after: list[np.ndarray]  # of each lesson (looks, n)
    said: str  # what broke


def facts(rows: Rows) -> list[tuple[QA, ...]]:
    """The training rows of each scored row: it, and those that follow it up to the next
    scored one, which say the same in other words. A scored row that is no training row
    is alone. Of a passage it is the block that begins with it, in the same order.

    >>> a, b, c = (QA(f"{x}?", f"{x}.") for x in "abc")
    >>> [len(fact) for fact in facts(Rows((a, c), (a, b, c)))]
    [2, 1]
    """
    found = list(_begun(rows)) if rows.documents else list(_asked(rows))
    ends = sorted({place for place in found if place is not None} | {len(rows.forget)})
    after = dict(itertools.pairwise(ends))
    return [
        (row,) if place is None else rows.forget[place : after[place]]
        for row, place in zip(rows.scored, found, strict=True)
    ]


def _asked(rows: Rows) -> Iterator[int | None]:
    """Where each scored row is among the forget rows."""
    places = {key_of(row): place for place, row in enumerate(rows.forget)}
    yield from (places.get(key_of(row)) for row in rows.scored)


def _begun(rows: Rows) -> Iterator[int | None]:
    """Where the block is that begins with each scored passage."""
    blocks = enumerate(rows.forget)  # that of the next passage comes later
    for text in (row.question + row.answer for row in rows.scored):
        yield next((i for i, block in blocks if block.answer.startswith(text)), None)


def flat(groups: Iterable[tuple[QA, ...]]) -> list[QA]:
    """All rows of some facts."""
    return [row for group in groups for row in group]


def learn(
    model: Attacked,
    rows: Rows,
    lessons: Sequence[Lesson],
    seed: int,
    progress: Progress,
) -> Learned:
    """The model scored as it is, and after each lesson, which all begin with it.

    A model that is no number any more answers nothing: its scores are 0.
    """
    subject, examples = model.subject, model.subject.encode(rows.scored)
    total, done, broken = sum(lesson.looks[-1] for lesson in lessons), 0, 0

    def on_update() -> None:
        nonlocal done
        done += 1
        progress(done / total)

    after = []
    for lesson in lessons:
        chosen, scores = [examples[i] for i in lesson.scored], []
        for params in trained(
            subject,
            model.params,
            lesson.taught,
            lesson.recipe,
            lesson.looks,
            seed=seed,
            on_update=on_update,
        ):
            try:
                scores.append(probabilities(subject, params, chosen))
            except EvaluationError:
                scores.append(np.zeros(len(chosen)))
                broken += 1
        after.append(np.stack(scores))
    said = f"{broken} trained models were not finite" if broken else ""
    return Learned(unaided(model, rows), after, said)
