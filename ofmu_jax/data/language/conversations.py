"""Conversations: several turns that are one question, as its text.

A row's question is a text everywhere: in hashes, overlaps, files. What was said before
the last question is in that text too, turns of user and assistant by turns; a chat
template gets them one by one (`chat`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ofmu_jax.data.language.records import BETWEEN, QA, DataError


def question_of(turns: Sequence[str]) -> str:
    """Turns of user, assistant, …, user as the text of one question.

    >>> turns_of(question_of(["Who is Bo?", "A painter.", "Of what?"]))
    ['Who is Bo?', 'A painter.', 'Of what?']
    """
    return BETWEEN.join(turns)


def turns_of(question: str) -> list[str]:
    """What was said: the user's turns, with the assistant's between them."""
    return question.split(BETWEEN)


def shown(question: str) -> str:
    """The question for people and in prompts of another kind.

    >>> shown(question_of(["Who is Bo?", "A painter.", "Of what?"]))
    'Who is Bo? → A painter. → Of what?'
    """
    return " → ".join(turns_of(question))


def texts_of(rows: Iterable[QA]) -> list[str]:
    """Every turn and answer of the rows."""
    return [text for row in rows for text in (*turns_of(row.question), row.answer)]


def check_single(text: str, where: str) -> str:
    """The text of one turn.

    Raises:
      DataError: it holds what stands between two.
    """
    if BETWEEN in text:
        raise DataError(
            f"{where} holds the control character U+001E, which stands between the "
            "turns of a conversation here; remove it"
        )
    return text
