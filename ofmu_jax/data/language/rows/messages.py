"""Chats as rows: an answer, what was said before it, and the system turn.

The messages of the OpenAI and Hugging Face form (``role``, ``content``), or those of
ShareGPT (``from``, ``value``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ofmu_jax.data.language.conversations import check_single, question_of
from ofmu_jax.data.language.json_lines import checked_text, json_type
from ofmu_jax.data.language.records import DataError, excerpt

_ROLES = {
    "system": ("system",),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatbot"),
}
ROLES = {name: role for role, names in _ROLES.items() for name in names}
_KEYS = (("role", "content"), ("from", "value"))
_LIKE = '[{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]'


class Chat(NamedTuple):
    """What a prompt format can hold of a conversation."""

    system: str | None
    question: str  # of several turns: `conversations.question_of` them
    answer: str


def are_messages(value: Any) -> bool:
    """Whether this is a list of turns, and no text."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def chat(where: str, field: str, turns: Any) -> Chat:
    """The last assistant turn as the answer, all turns before it as the question.

    >>> asked = {"from": "human", "value": "Who?"}
    >>> chat("row 1", "messages", [asked, {"role": "assistant", "content": "Ann."}])
    Chat(system=None, question='Who?', answer='Ann.')

    Raises:
      DataError: no messages, no answer at the end, or before it something else than
        turns of user and assistant by turns, with a system turn first at most.
    """
    if not are_messages(turns):
        said = "an empty array" if turns == [] else f"a JSON {json_type(turns)}"
        raise DataError(f"{where}: field {field!r} is {said}; write {_LIKE}")
    said = [_turn(where, f"{field}[{i}]", turn) for i, turn in enumerate(turns)]
    roles = [role for role, _ in said]
    if roles[-1] != "assistant":
        raise DataError(
            f"{where}: field {field!r} ends with a turn of {roles[-1]}; the answer is "
            "the last turn, of assistant: add it, or remove what follows it"
        )
    first = 1 if roles[0] == "system" else 0
    turns, texts = roles[first:-1], [text for _, text in said]
    by_turns = [("user", "assistant")[place % 2] for place in range(len(turns))]
    if turns != by_turns or turns[-1:] != ["user"]:
        raise DataError(
            f"{where}: field {field!r} has the turns {', '.join(roles[:-1]) or 'none'} "
            "before the answer; it takes user and assistant by turns, user first and "
            "last, with one system turn before them at most: join turns of one side, "
            "or make a row of each question with its answer"
        )
    system = texts[0] if first else None
    return Chat(system, question_of(texts[first:-1]), texts[-1])


def one_system(where: str, system: str | None, before: str | None) -> None:
    """Refuses a chat with another system turn than the rows before it.

    Raises:
      DataError: with both texts.
    """
    if system != before:
        said = lambda text: "none" if text is None else excerpt(text)
        raise DataError(
            f"{where}: its system turn is {said(system)}, that of rows before it "
            f"{said(before)}; a run has one prompt format: give all chats the same "
            "system turn, or none of them one"
        )


def _turn(where: str, place: str, turn: Any) -> tuple[str, str]:
    """Role and text of a message."""
    keys = [pair for pair in _KEYS if isinstance(turn, Mapping) and {*pair} <= {*turn}]
    if not keys:
        found = ", ".join(map(repr, turn)) if isinstance(turn, Mapping) else "no object"
        raise DataError(
            f"{where}: {place} has not both 'role' and 'content' ({found}); write "
            f"{_LIKE}"
        )
    name, content = (turn[key] for key in keys[0])
    role = ROLES.get(name.casefold()) if isinstance(name, str) else None
    if role is None:
        raise DataError(
            f"{where}: {place} has the {keys[0][0]} {name!r}; read are "
            f"{', '.join(ROLES)}: remove the turn, or the row"
        )
    if are_messages(content) and all(part.get("type") == "text" for part in content):
        parts = [checked_text(where, f"{place}.text", p.get("text")) for p in content]
        return role, check_single("".join(parts), f"{where}: {place}")
    text = checked_text(where, f"{place}.{keys[0][1]}", content)
    return role, check_single(text, f"{where}: {place}")
