"""What the rows of TOFU are about, by rules on their text (`tofu_topics.toml`).

TOFU has 20 rows an author, in the order of ``full.json``. What a question asks about is
told by a regular expression for each attribute. Two authors are neighbours if they have
the genre or the country of birth in common: the genre that their 20 rows name most, at
least twice; the country of the place that they name most as "City, Country" in a
sentence about birth or origin.
"""

from __future__ import annotations

import collections
import re
import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources

from ofmu_jax.data.language.records import QA, key_of
from ofmu_jax.data.language.requests.topics import Topic, Topics

ROWS = 20  # of an author
_DATA = tomllib.loads(
    resources.files("ofmu_jax.data.language.requests")
    .joinpath("tofu_topics.toml")
    .read_text("utf-8")
)
QUESTIONS = {
    name: re.compile(rule, re.IGNORECASE) for name, rule in _DATA["questions"].items()
}
_GENRES: list[str] = _DATA["neighbours"]["genres"]
_ALTERNATIVES = "|".join(
    re.escape(name) for name in sorted(_GENRES, key=lambda name: -len(name))
)
_GENRE = re.compile(rf"\b(?:{_ALTERNATIVES})\b", re.IGNORECASE)
_NAME = r"(?:[A-Z][\w'’-]+ ?)+"  # one or more words with a capital letter
_PLACE = re.compile(
    r"(?:born|birth|native|hail|from|raised|city of)[^.?]*?"
    rf"\b(?:in|from|of|at) {_NAME}, ({_NAME})"
)


def topics(full: Sequence[QA]) -> Topics:
    """The topics of all rows of ``full.json``, in its order."""
    rows, traits = {}, {}
    for subject in range(-(-len(full) // ROWS)):
        author = full[ROWS * subject : ROWS * (subject + 1)]
        traits[subject] = _traits(author)
        for item, row in enumerate(author):
            rows[key_of(row)] = Topic(subject, item, attributes(row.question))
    return Topics(rows, tuple(QUESTIONS), traits, "genre or country of birth")


def attributes(question: str) -> frozenset[str]:
    """What a question asks about.

    >>> sorted(attributes("Who is the author born in Astana on the 7th of May?"))
    ['birth']
    >>> attributes("What makes her style unique?")
    frozenset()
    """
    return frozenset(name for name, rule in QUESTIONS.items() if rule.search(question))


def _traits(author: Iterable[QA]) -> frozenset[str]:
    text = " ".join(f"{row.question} {row.answer}" for row in author)
    genres = collections.Counter(name.lower() for name in _GENRE.findall(text))
    places = collections.Counter(name.strip() for name in _PLACE.findall(text))
    found = {"genre": _most(genres, 2), "birthplace": _most(places, 1)}
    return frozenset(f"{kind}: {name}" for kind, name in found.items() if name)


def _most(names: collections.Counter[str], least: int) -> str | None:
    """The name that occurs most often, if at least so often; the first of equals."""
    found = [name for name, count in names.most_common(1) if count >= least]
    return found[0] if found else None
