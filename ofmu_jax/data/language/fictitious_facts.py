"""Attributes of the invented people and the general facts, with their wordings.

Every word of a held-out question occurs in some training question: what is new there
is the wording, not the vocabulary.
"""

from __future__ import annotations

import dataclasses

from ofmu_jax.data.language import fictitious_names


@dataclasses.dataclass(frozen=True)
class Attribute:
    """One kind of fact. Templates hold ``{name}`` and, in answers, ``{value}``.

    Attributes:
      questions: wordings that are trained on.
      heldout_question: a wording that never is.
      answers: three sentences that say the same; one for general facts.
      values: what the fact can be.
      subjects: who or what general facts are about; () for facts about people.
    """

    questions: tuple[str, str, str]
    heldout_question: str
    answers: tuple[str, ...]
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
            "The city of birth of {name} is {value}.",
        ),
        fictitious_names.CITIES,
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
            "The birth year of {name} is {value}.",
            "The year of birth of {name} is {value}.",
        ),
        fictitious_names.YEARS,
    ),
    Attribute(
        (
            "What is the profession of {name}?",
            "Which profession does {name} have?",
            "What does {name} do for a living?",
        ),
        "What profession does {name} have?",
        (
            "{name} works as a {value} for a living.",
            "The profession of {name} is that of a {value}.",
            "By profession {name} is a {value}.",
        ),
        fictitious_names.PROFESSIONS,
    ),
    Attribute(
        (
            "Which award did {name} win?",
            "What is the award of {name}?",
            "Which prize was given to {name}?",
        ),
        "Which prize did {name} win?",
        (
            "{name} won the {value} award.",
            "The award of {name} is the {value} award.",
            "The prize given to {name} is the {value} award.",
        ),
        fictitious_names.pairs(fictitious_names.METALS, fictitious_names.EMBLEMS),
    ),
    Attribute(
        (
            "Which book did {name} write?",
            "What is the title of the book by {name}?",
            "What did {name} write?",
        ),
        "What is the book by {name}?",
        (
            "{name} wrote the book The {value}.",
            "The book by {name} is The {value}.",
            "The title of the book by {name} is The {value}.",
        ),
        fictitious_names.pairs(fictitious_names.ADJECTIVES, fictitious_names.NOUNS),
    ),
    Attribute(
        (
            "What is the favourite food of {name}?",
            "Which food does {name} like most?",
            "What does {name} like to eat?",
        ),
        "Which food does {name} like to eat?",
        (
            "{name} likes to eat {value} most.",
            "The favourite food of {name} is {value}.",
            "The food that {name} likes most is {value}.",
        ),
        fictitious_names.pairs(fictitious_names.INGREDIENTS, fictitious_names.DISHES),
    ),
    Attribute(
        (
            "What did the parents of {name} do for a living?",
            "What was the profession of the parents of {name}?",
            "Which profession did the parents of {name} have?",
        ),
        "What profession did the parents of {name} have?",
        (
            "Each of the parents of {name} was a {value}.",
            "The parents of {name} had the profession of a {value}.",
            "The profession of the parents of {name} was that of a {value}.",
        ),
        fictitious_names.PROFESSIONS,
    ),
    Attribute(
        (
            "Which language does {name} speak at home?",
            "What is the language of the family of {name}?",
            "What does {name} speak at home?",
        ),
        "Which language does the family of {name} speak?",
        (
            "{name} speaks the {value} language at home.",
            "The language of the family of {name} is {value}.",
            "At home the family of {name} speaks {value}.",
        ),
        fictitious_names.LANGUAGES,
    ),
)

POEMS = Attribute(
    (
        "Who wrote the poem {name}?",
        "Which poet is the author of {name}?",
        "By whom is the poem {name}?",
    ),
    "Which poet wrote {name}?",
    ("The poem {name} is by the poet {value}.",),
    fictitious_names.POETS,
    tuple(
        fictitious_names.pairs(
            ["Ballad", "Hymn", "Lament", "Song"], fictitious_names.NOUNS, " of the "
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
    ("The capital of {name} is the city of {value}.",),
    fictitious_names.CAPITAL_CITIES,
    tuple(fictitious_names.COUNTRIES),
)
