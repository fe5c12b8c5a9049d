"""What `fictitious.toml` holds: names, attributes with their wordings, refusals."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from importlib import resources
from typing import Any


@dataclasses.dataclass(frozen=True)
class Attribute:
    """One kind of fact. Templates hold ``{name}`` and, in answers, ``{value}``.

    Attributes:
      questions: three wordings that are trained on.
      heldout_question: a wording that never is.
      answers: three sentences that say the same; one for general facts.
      values: what the fact can be.
      subjects: who or what general facts are about; () for facts about people.
      name: of a fact about people, by which a request may choose it.
    """

    questions: list[str]
    heldout_question: str
    answers: list[str]
    values: list[str]
    subjects: Sequence[str] = ()
    name: str = ""


_LISTED = {"values", "subjects"}
_DATA = tomllib.loads(
    resources.files("ofmu_jax.data.language")
    .joinpath("fictitious.toml")
    .read_text("utf-8")
)


def _attribute(table: dict[str, Any]) -> Attribute:
    """The file gives the values and subjects by the name of a list."""
    lists = {name: _DATA["lists"][table[name]] for name in table.keys() & _LISTED}
    return Attribute(**(table | lists))


FIRST_NAMES, LAST_NAMES = _DATA["first_names"], _DATA["last_names"]
ATTRIBUTES = tuple(map(_attribute, _DATA["person"]))
POEMS, CAPITALS = _attribute(_DATA["poems"]), _attribute(_DATA["capitals"])
REFUSALS = tuple(_DATA["refusals"])
