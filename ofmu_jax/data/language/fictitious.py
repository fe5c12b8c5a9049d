"""The embedded data set: invented people, in the structure of TOFU.

Of each of a person's eight facts there are three training questions, one that is never
trained on, and five wrong answers in the words of the paraphrase. Three sentences are
shuffled for every fact: the first answers the first and the last question, the second
the one between, the third is the paraphrase. So a model knows the form of a paraphrase
from other people, but never met this sentence of this fact: the truth ratio measures
what it knows. General facts, poems and capitals, are trained on as well and stand for
TOFU's real authors and world facts.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ofmu_jax.data.language.fictitious_facts import (
    ATTRIBUTES,
    CAPITALS,
    FIRST_NAMES,
    LAST_NAMES,
    POEMS,
    Attribute,
)
from ofmu_jax.data.language.records import (
    QA,
    DataError,
    UnlearningData,
    heldout_questions,
    key_of,
)
from ofmu_jax.data.language.requests.topics import Topic, Topics

NUM_PERTURBED = 5  # wrong answers per fact about a person, as in TOFU
NUM_OPTIONS = 3  # wrong answers per general fact, as in TOFU
NEIGHBOURS = ("birthplace", "profession")  # people who share one are neighbours


class Fact(NamedTuple):
    """One fact: what it is, and its training rows, of which the first is evaluated."""

    value: str
    rows: tuple[QA, ...]


Facts = list[Fact]


def fictitious_people(
    seed: int = 0,
    num_people: int = 40,
    num_forget: int | None = None,
    num_holdout: int | None = None,
) -> UnlearningData:
    """Invents people, some of whom are to be forgotten.

    Args:
      seed: of all choices; the same seed gives the same data in every process.
      num_people: people that the model is trained on.
      num_forget: how many of them to forget; default: a tenth, at least one.
      num_holdout: further people that no model sees; default: ``num_forget``, but
        at least 8, so that attacks have non-members enough.

    Returns:
      Training rows (`forget`, `retain`, `full`: retain then forget) with three
      wordings of a question each; `forget_eval`, `retain_eval` and `holdout` with one
      row per fact; `forget_heldout` and `retain_heldout` with its held-out wording.

    Raises:
      DataError: numbers of people that do not fit.
    """
    num_forget = max(1, num_people // 10) if num_forget is None else num_forget
    num_holdout = max(8, num_forget) if num_holdout is None else num_holdout
    _check_numbers(num_people, num_forget, num_holdout)
    rng = np.random.default_rng(seed)
    names = _names(rng, num_people + num_holdout)
    num_kept = num_people - num_forget
    # Each group from decks of its own: see `_deal` for what that guarantees.
    kept = _facts_about(rng, names[:num_kept])
    gone = _facts_about(rng, names[num_kept:num_people])
    unseen = _facts_about(rng, names[num_people:])
    poems, capitals = (
        _facts(rng, kind, kind.subjects, NUM_OPTIONS) for kind in (POEMS, CAPITALS)
    )
    forget = _flatten(gone)
    retain = _flatten(kept) + _flatten(poems) + _flatten(capitals)
    return UnlearningData(
        name=f"fictitious/{num_forget}-of-{num_people}-seed{seed}",
        forget=forget,
        retain=retain,
        full=retain + forget,
        forget_eval=_first(gone),
        retain_eval=_first(kept),
        real_authors=_first(poems),
        world_facts=_first(capitals),
        forget_heldout=heldout_questions(_first(gone)),
        retain_heldout=heldout_questions(_first(kept)),
        holdout=_first(unseen),
        topics=functools.partial(_topics, kept + gone + unseen),
    )


def _check_numbers(num_people: int, num_forget: int, num_holdout: int) -> None:
    if not 1 <= num_forget < num_people:
        raise DataError(
            f"{num_forget} of {num_people} people to forget (--forget-people, "
            "--people); at least one must be forgotten and one kept"
        )
    most = len(FIRST_NAMES) * len(LAST_NAMES)
    if num_holdout < 0 or num_people + num_holdout > most:
        raise DataError(
            f"{num_people} people (--people) and {num_holdout} more held out; there "
            f"are names for 0 to {most} in all"
        )


def _names(rng: np.random.Generator, number: int) -> list[str]:
    """Full names, all different.

    Person j gets first name ``j % n`` and a last name shifted by ``shifts[j // n]``:
    no pair twice, and the first n people have all the first and last names.
    """
    first = rng.permutation(FIRST_NAMES)
    last = rng.permutation(LAST_NAMES)
    shifts = rng.permutation(len(last))
    names = []
    for j in range(number):
        lap, i = divmod(j, len(first))
        names.append(f"{first[i]} {last[(i + shifts[lap]) % len(last)]}")
    return names


def _facts_about(rng: np.random.Generator, names: Sequence[str]) -> Facts:
    """Facts of all people, person by person."""
    columns = [_facts(rng, kind, names, NUM_PERTURBED) for kind in ATTRIBUTES]
    return [fact for person in zip(*columns, strict=True) for fact in person]


def _facts(
    rng: np.random.Generator, kind: Attribute, subjects: Sequence[str], num_wrong: int
) -> Facts:
    values = _deal(rng, kind.values, len(subjects))
    dealt = zip(subjects, values, strict=True)
    return [_fact(rng, kind, subject, value, num_wrong) for subject, value in dealt]


def _fact(
    rng: np.random.Generator, kind: Attribute, subject: str, value: str, num_wrong: int
) -> Fact:
    """The training rows of one fact; the last of its sentences is its paraphrase.

    General facts have one sentence: no paraphrase, and wrong answers in its words.
    """
    tell = lambda text, value=value: text.format(name=subject, value=value)
    sentences = [str(s) for s in rng.permutation(kind.answers)]
    first, second, last = sentences[0], sentences[:2][-1], sentences[-1]
    others = [other for other in kind.values if other != value]
    wrong = rng.choice(len(others), num_wrong, replace=False)
    more: dict[str, Any] = {}
    if len(sentences) > 1:
        more["paraphrased_question"] = tell(kind.heldout_question)
        more["paraphrased_answer"] = tell(last)
    more["perturbed_answers"] = tuple(tell(last, others[i]) for i in wrong)
    rows = zip(kind.questions, (first, second, first), strict=True)
    asked = (QA(tell(question), tell(answer), **more) for question, answer in rows)
    return Fact(value, tuple(asked))


def _deal(rng: np.random.Generator, values: Sequence[str], number: int) -> list[str]:
    """``number`` values, dealt from shuffled decks: about equally often each.

    Dealt to at least as many people as there are values, every value occurs. That
    holds for the kept people of the default, so that no answer about others needs a
    word that a model trained on the kept people alone has never seen.
    """
    decks = (rng.permutation(len(values)) for _ in itertools.count())
    places = itertools.islice(itertools.chain.from_iterable(decks), number)
    return [values[i] for i in places]


def _flatten(facts: Facts) -> tuple[QA, ...]:
    return tuple(row for fact in facts for row in fact.rows)


def _first(facts: Facts) -> tuple[QA, ...]:
    return tuple(fact.rows[0] for fact in facts)


def _topics(facts: Facts) -> Topics:
    """The topics of facts about people, person by person.

    Item k of a person is attribute k: a fact in all its wordings.
    """
    rows, traits, kinds = {}, {}, len(ATTRIBUTES)
    for number, fact in enumerate(facts):
        subject, item = divmod(number, kinds)
        attribute = ATTRIBUTES[item].name
        topic = Topic(subject, item, frozenset([attribute]))
        rows |= {key_of(row): topic for row in fact.rows}
        if attribute in NEIGHBOURS:
            traits.setdefault(subject, set()).add(f"{attribute}: {fact.value}")
    shared = {subject: frozenset(found) for subject, found in traits.items()}
    names = tuple(attribute.name for attribute in ATTRIBUTES)
    return Topics(rows, names, shared, " or ".join(NEIGHBOURS))
