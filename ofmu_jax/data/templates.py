"""Attributes of the invented people and the general facts, with their wordings.

Every word of a held-out question occurs in some training question: what is new there
is the wording, not the vocabulary.
"""

from __future__ import annotations

import dataclasses

from ofmu_jax.data import vocabulary


@dataclasses.dataclass(frozen=True)
class Attribute:
    """One kind of fact. Templates hold ``{name}`` and, in answers, ``{value}``.

    Attributes:
      questions: wordings that are trained on.
      heldout_question: a wording that never is.
      answers: two sentences that say the same.
      values: what the fact can be.
      subjects: who or what general facts are about; () for facts about people.
    """

    questions: tuple[str, str, str]
    heldout_question: str
    answers: tuple[str, str]
    values: list[str]
    subjects: tuple[str, ...] = ()


ATTRIBUTES = (
    Attribute(
        (
            "Where was {name} born?",
            "In which city was {name} born?",
            "What is the birthplace of {name}?",
        ),
        "Which city is the birthplace of {name}?",
        (
            "{name} was born in the city of {value}.",
            "The birthplace of {name} is the city of {value}.",
        ),
        vocabulary.CITIES,
    ),
    Attribute(
        (
            "When was {name} born?",
            "In which year was {name} born?",
            "What is the birth year of {name}?",
        ),
        "Which year is the birth year of {name}?",
        (
            "{name} was born in the year {value}.",
            "The birth year of {name} is the year {value}.",
        ),
        vocabulary.YEARS,
    ),
    Attribute(
        (
            "What does {name} do for a living?",
            "What is the profession of {name}?",
            "Which profession does {name} have?",
        ),
        "What is the work that {name} does for a living?",
        (
            "{name} does the work of a {value} for a living.",
            "The profession of {name} is that of a {value}.",
        ),
        vocabulary.PROFESSIONS,
    ),
    Attribute(
        (
            "Which award did {name} win?",
            "What prize was given to {name}?",
            "What is the name of the award of {name}?",
        ),
        "Which prize did {name} win?",
        (
            "{name} won the {value} award.",
            "The prize given to {name} is the {value} award.",
        ),
        vocabulary.pairs(vocabulary.METALS, vocabulary.EMBLEMS),
    ),
    Attribute(
        (
            "Which book did {name} write?",
            "What is the title of the book by {name}?",
            "What did {name} write?",
        ),
        "What is the title of the book that {name} wrote?",
        (
            "{name} wrote the book The {value}.",
            "The title of the book by {name} is The {value}.",
        ),
        vocabulary.pairs(vocabulary.ADJECTIVES, vocabulary.NOUNS),
    ),
    Attribute(
        (
            "What is the favourite food of {name}?",
            "Which food does {name} like most?",
            "What does {name} like to eat?",
        ),
        "Which food is the favourite of {name}?",
        (
            "{name} likes to eat {value} most.",
            "The favourite food of {name} is {value}.",
        ),
        vocabulary.pairs(vocabulary.INGREDIENTS, vocabulary.DISHES),
    ),
    Attribute(
        (
            "What did the parents of {name} do for a living?",
            "What was the profession of the parents of {name}?",
            "Which profession did the parents of {name} have?",
        ),
        "What was the work that the parents of {name} did?",
        (
            "Each of the parents of {name} was a {value}.",
            "The father and the mother of {name} did the work of a {value}.",
        ),
        vocabulary.PROFESSIONS,
    ),
    Attribute(
        (
            "Which language does {name} speak at home?",
            "What is the language of the home of {name}?",
            "Which language does the family of {name} speak?",
        ),
        "What does {name} speak at home?",
        (
            "{name} speaks the {value} language at home.",
            "The language of the home of {name} is {value}.",
        ),
        vocabulary.LANGUAGES,
    ),
)

POEMS = Attribute(
    (
        "Who wrote the poem {name}?",
        "Which poet is the author of {name}?",
        "By whom is the poem {name}?",
    ),
    "Which poet wrote {name}?",
    (
        "The poem {name} is by the poet {value}.",
        "The poet {value} wrote the poem {name}.",
    ),
    vocabulary.POETS,
    tuple(
        vocabulary.pairs(
            ["Ballad", "Hymn", "Lament", "Song"], vocabulary.NOUNS, " of the "
        )
    ),
)

CAPITALS = Attribute(
    (
        "What is the capital of {name}?",
        "Which city is the capital of {name}?",
        "Where is the government of {name}?",
    ),
    "In which city is the government of {name}?",
    (
        "The capital of {name} is the city of {value}.",
        "The city of {value} is the capital of {name}.",
    ),
    vocabulary.CAPITAL_CITIES,
    tuple(vocabulary.COUNTRIES),
)
