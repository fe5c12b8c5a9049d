"""The answers of a report's models for its first screen, changed words marked."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import glossary

Row = Mapping[str, Any]
MOST_WORDS = 30  # of an answer on the page; report.json has all of it
LONGEST = 40  # letters of a word there: ruined models write words without an end
SAME = "word for word"
ROLES = {"target": "before", "retrained": "retrained"}


def marked(text: str, against: str) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether its words are not those of another text.

    >>> marked("her name is Ada", "her name was Ada")
    [('her name', False), ('is', True), ('Ada', False)]
    """
    words = text.split()
    match = difflib.SequenceMatcher(None, against.split(), words, autojunk=False)
    pieces = []
    for kind, _, _, low, high in match.get_opcodes():
        if high > low:
            pieces.append((" ".join(words[low:high]), kind != "equal"))
    return pieces


def shortened(pieces: Sequence[tuple[str, bool]], most: int = MOST_WORDS):
    """The first words of `marked` pieces; an ellipsis where there are more.

    >>> shortened([("a b", False), ("c d", True)], 3)
    [('a b', False), ('c …', True)]
    >>> shortened([("ha" * 99, True)])[0][0] == "ha" * (LONGEST // 2) + "…"
    True
    """
    found, room = [], most
    for text, changed in pieces:
        words = [w if len(w) <= LONGEST else f"{w[:LONGEST]}…" for w in text.split()]
        if len(words) > room:
            return [*found, (" ".join([*words[:room], "…"]), changed)]
        found.append((" ".join(words), changed))
        room -= len(words)
    return found


def cards(answers: Row | None) -> list[dict[str, Any]]:
    """A card a row: the question, the true answer, and a line a model.

    Target and retrained model come first. Words of the others that the target did not
    say are marked; without a target, those that are not in the true answer.
    """
    return [_card(row) for row in answers["rows"]] if answers else []


def _card(row: Row) -> dict[str, Any]:
    said, true = row["said"], row["answer"]
    before = said.get("target", true)
    names = [*(name for name in ROLES if name in said)]
    names += [name for name in said if name not in ROLES]
    picture = row.get("picture")
    lines = [_line(name, said[name], before, picture) for name in names]
    return {
        "part": row["part"],
        "question": row.get("question") or "",
        "picture": picture,
        "true": true if picture else shortened([(true, False)])[0][0],
        # The target's line says it already, where it is the same or cut short.
        "known": not picture and _begins(true, before),
        "lines": lines,
    }


def _begins(text: str, with_: str) -> bool:
    words = with_.split()
    return bool(words) and text.split()[: len(words)] == words


def _line(name: str, text: str, before: str, picture: str | None) -> dict[str, Any]:
    role = name if name in ROLES else "unlearned"
    # Of a picture the class counts, not how sure the model is.
    class_of = lambda said: said.rpartition(" ")[0]
    if picture:
        pieces = [(text, class_of(text) != class_of(before))]
    else:
        pieces = shortened(marked(text, before))
    label = glossary.method_label({"role": role, "method": name})
    return {
        "name": name,
        "role": role,
        "label": ROLES.get(name, label),
        "pieces": pieces,
        "same": role == "unlearned" and not any(changed for _, changed in pieces),
        "nothing": not text.strip(),
    }
