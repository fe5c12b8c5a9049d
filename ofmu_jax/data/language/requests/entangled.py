"""Requests that leave rows close to the forgotten ones: a whole request, re-divided.

`whole` forgets all rows of some subjects (authors, people). The others keep rows that
share a subject, or a trait of one, with what is forgotten:

- `half`: every second question of each of these subjects is forgotten, the other half
  is kept: question or fact k of subject s is forgotten where k + s is even;
- `attribute:NAME`: one attribute of everyone is forgotten, whatever else is known of
  them is kept;
- `neighbours`: the subjects are forgotten as a whole, and of those kept the ones that
  share a trait with a forgotten one are watched.

Kept rows of the first kind are *adjacent*, the rest of the retain rows *generic*. A
method trains on both alike; the evaluation scores them apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from ofmu_jax.data.language.records import (
    QA,
    DataError,
    UnlearningData,
    heldout_questions,
    subtract,
)
from ofmu_jax.data.language.requests.topics import Topic, Topics

WHOLE, HALF, ATTRIBUTE, NEIGHBOURS = "whole", "half", "attribute", "neighbours"
CHOICES = f"{WHOLE}, {HALF}, {ATTRIBUTE}:NAME or {NEIGHBOURS}"
GIVEN = "given"  # adjacent rows that came in a file

Rule = Callable[[Topic], bool | None]  # True: forgotten; False: adjacent; None: generic


def check_request(request: str) -> None:
    """Raises DataError for a text that is no kind of request."""
    kind, _, name = request.partition(":")
    if request in (WHOLE, HALF, NEIGHBOURS) or (kind == ATTRIBUTE and name):
        return
    raise DataError(f"--request {request!r} is no kind of request; give {CHOICES}")


def in_words(request: str) -> str:
    """What a title says of a request, after the authors that it is about.

    >>> in_words("half"), in_words("attribute:award")
    (', half of the questions of each author', ', the attribute award of everyone')
    """
    kind, _, name = request.partition(":")
    return {
        WHOLE: "",
        HALF: ", half of the questions of each author",
        ATTRIBUTE: f", the attribute {name} of everyone",
        NEIGHBOURS: ", neighbours watched",
    }[kind]


def entangle(data: UnlearningData, request: str) -> UnlearningData:
    """The data of a whole request as another kind of request; `full` is the same.

    The evaluation sets are divided as the training rows are: `retain_eval` has generic
    rows, and adjacent ones only where there are no others. Adjacent rows without
    perturbed answers are watched where none has any.

    Args:
      data: of whole subjects, with `topics`.
      request: as `check_request` knows it.

    Raises:
      DataError: a request that the data cannot answer.
    """
    check_request(request)
    if request == WHOLE:
        return data
    topics = _topics(data)
    rule = _rule(request, topics, frozenset(topics.subjects(data.forget)))
    forget, adjacent = _divided(data.full, topics, rule)
    _check(request, topics, forget, adjacent, data.full)
    pool = data.forget_eval + data.retain_eval
    forget_eval, adjacent_eval = _divided(pool, topics, rule)
    if not forget_eval:
        raise DataError(
            f"--request {request} forgets {len(forget)} rows and none of them is "
            "evaluated (none has perturbed answers); raise --max-retain"
        )
    adjacent_eval = adjacent_eval or adjacent
    retain_eval = subtract(pool, forget_eval + adjacent_eval) or adjacent_eval
    changed = dataclasses.replace(
        data,
        name=f"{data.name}/{request}",
        request=request,
        forget=forget,
        retain=subtract(data.full, forget),
        adjacent=adjacent,
        forget_eval=forget_eval,
        retain_eval=retain_eval,
        adjacent_eval=adjacent_eval,
        forget_heldout=heldout_questions(forget_eval),
        retain_heldout=heldout_questions(retain_eval),
        adjacent_heldout=heldout_questions(adjacent_eval),
    )
    return _with_like_holdout(changed, topics)


def played(data: UnlearningData) -> UnlearningData:
    """A request of the same kind on the retain rows: what methods are tuned on.

    Half of as many other subjects; the next attribute of everyone; as many other
    subjects that have neighbours. Where the adjacent rows came in a file: every second
    of them, at most as many as there are forget rows, the others being adjacent.

    Args:
      data: of an entangled request.

    Returns:
      Training rows and hold-out rows, no evaluation sets; `full` is `data.retain`.

    Raises:
      DataError: there are too few retain rows for it.
    """
    if data.request == GIVEN:
        forget = data.adjacent[::2][: len(data.forget)]
        adjacent = subtract(data.adjacent, forget)
    else:
        topics = _topics(data)
        subjects = _others(data, topics)
        request = _next_attribute(data, topics)
        forget, adjacent = _divided(
            data.retain, topics, _rule(request, topics, frozenset(subjects))
        )
    retain = subtract(data.retain, forget)
    if not (forget and adjacent and retain):
        raise DataError(
            f"--tune plays a request of the same kind ({data.request}) on the retain "
            f"rows, and these {len(data.retain)} make {len(forget)} forget and "
            f"{len(adjacent)} adjacent rows; give more retain rows, or leave out --tune"
        )
    return UnlearningData(
        name=f"{data.name}/validation",
        forget=forget,
        retain=retain,
        full=data.retain,
        holdout=data.holdout,
        adjacent=adjacent,
        request=data.request,
        sources=data.sources,
    )


def watched(data: UnlearningData, adjacent: tuple[QA, ...]) -> UnlearningData:
    """The data with adjacent rows that were given: kept, and scored on their own.

    Those that are no retain rows yet become some, the last.
    """
    more = subtract(adjacent, data.retain)
    retain_eval = subtract(data.retain_eval, adjacent) or adjacent
    return dataclasses.replace(
        data,
        request=GIVEN,
        retain=data.retain + more,
        full=data.full + more,
        adjacent=adjacent,
        adjacent_eval=adjacent,
        retain_eval=retain_eval,
        retain_heldout=heldout_questions(retain_eval),
        adjacent_heldout=heldout_questions(adjacent),
    )


def _topics(data: UnlearningData) -> Topics:
    if data.topics is None:
        raise DataError(f"{data.name}: nothing says what its rows are about")
    return data.topics()


def _rule(request: str, topics: Topics, subjects: frozenset[int]) -> Rule:
    """What becomes of a row by its topic, where ``subjects`` are to be forgotten."""
    kind, _, name = request.partition(":")
    if kind == ATTRIBUTE:
        if name not in topics.attributes:
            known = ", ".join(topics.attributes)
            raise DataError(f"--request {request}: no such attribute; known: {known}")
        return lambda topic: name in topic.attributes
    if kind == HALF:
        even = lambda topic: (topic.item + topic.subject) % 2 == 0
        return lambda topic: even(topic) if topic.subject in subjects else None
    near = topics.neighbours(subjects)
    gone = lambda topic: True if topic.subject in subjects else None
    return lambda topic: False if topic.subject in near else gone(topic)


def _divided(
    rows: Iterable[QA], topics: Topics, rule: Rule
) -> tuple[tuple[QA, ...], tuple[QA, ...]]:
    """The rows that are forgotten, and those that are adjacent, in order."""
    told = [(row, topics.of(row)) for row in rows]
    found = [(row, None if topic is None else rule(topic)) for row, topic in told]
    gone = tuple(row for row, label in found if label is True)
    return gone, tuple(row for row, label in found if label is False)


def _check(request: str, topics: Topics, forget, adjacent, full) -> None:
    if not forget:
        raise DataError(f"--request {request} forgets none of {len(full)} rows")
    if not adjacent:
        raise DataError(
            f"--request {request}: no row that is kept lies next to the "
            f"{len(forget)} forgotten ones (shares {topics.shared} with them); give "
            "more retain rows (--max-retain, --people)"
        )


def _with_like_holdout(data: UnlearningData, topics: Topics) -> UnlearningData:
    """Rows that no model has seen, of the same attribute as the forgotten ones."""
    if data.request.partition(":")[0] != ATTRIBUTE or not data.holdout:
        return data
    unseen = data.pretraining + data.holdout
    alike, _ = _divided(unseen, topics, _rule(data.request, topics, frozenset()))
    if not alike:
        return data
    holdout = alike[-len(data.forget) :]
    pretraining = subtract(unseen, holdout) if data.pretraining else ()
    return dataclasses.replace(data, holdout=holdout, pretraining=pretraining)


def _others(data: UnlearningData, topics: Topics) -> tuple[int, ...]:
    """As many subjects as the request forgets: the last retained ones that it does
    not touch, and that have neighbours, where those are watched."""
    touched = topics.subjects(data.forget)
    left = [s for s in topics.subjects(data.retain) if s not in touched]
    if data.request == NEIGHBOURS:
        left = [s for s in left if topics.neighbours([s]) & frozenset(left)]
    return tuple(left[-len(touched) :])


def _next_attribute(data: UnlearningData, topics: Topics) -> str:
    """The request on the attribute after the request's; another kind as it is."""
    kind, _, name = data.request.partition(":")
    if kind != ATTRIBUTE:
        return data.request
    after = (topics.attributes.index(name) + 1) % len(topics.attributes)
    return f"{ATTRIBUTE}:{topics.attributes[after]}"
