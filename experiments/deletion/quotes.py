"""Texts that would tell a row: what goes out with a model must not hold one."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ofmu_jax.data.language.records import BETWEEN

WORDS = 3  # fewer tell no row: every vocabulary holds them
# At the end of a sentence, a line or a turn, of which a row may have several.
_ENDS = re.compile(rf"(?<=[.!?])\s+|[\n{BETWEEN}]+")


def quotes(items: Iterable[Any]) -> frozenset[str]:
    """The sentences of rows, squeezed, by which they would be recognised.

    Args:
      items: rows as JSON values (`experiments.domains.base.Evidence.items`).

    >>> sorted(quotes([{"question": "Where was  Ada born?", "answer": "In Lund."}]))
    ['where was ada born?']
    >>> holds("Ada was a poet, and", quotes(["Ada was a poet\x1eWhen was that"]))
    True
    """
    sentences = (each for item in items for text in _texts(item) for each in _cut(text))
    return frozenset(each for each in sentences if len(each.split()) >= WORDS)


def without(text: str, found: frozenset[str]) -> tuple[str, int]:
    """A Markdown text without the paragraphs that quote a row, and how many these are.

    >>> found = quotes(["Where was Ada born?"])
    >>> without("# Ada\\n\\nWhere was Ada\\nborn? In Lund.", found)
    ('# Ada', 1)
    """
    if not holds(text, found):
        return text, 0
    parts = re.split(r"\n\s*\n", text)
    kept = [part for part in parts if not holds(part, found)]
    if holds("\n\n".join(kept), found):  # over the end of a paragraph
        return "", len(parts)
    return "\n\n".join(kept), len(parts) - len(kept)


def holds(text: str, found: frozenset[str]) -> bool:
    """Whether a text quotes a row."""
    squeezed = _squeezed(text)
    return any(quote in squeezed for quote in found)


def _cut(text: str) -> Sequence[str]:
    return [_squeezed(text), *map(_squeezed, _ENDS.split(text))]


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
