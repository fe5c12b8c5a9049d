"""Documents: trained on in blocks of tokens, judged by how they are continued.

A block is at most as long as what a model reads at once; blocks of a document, put
together, are the document. A passage is the beginning of a block in two parts, a
prefix and its continuation, so that a model can be asked to go on as the document does
(verbatim memorisation: Carlini et al. 2023, arXiv:2202.07646; MUSE, Shi et al. 2024,
arXiv:2407.06460).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from ofmu_jax.data.language.boundary import ids_of
from ofmu_jax.data.language.records import QA, DataError, UnlearningData

# Sets of rows that are trained on, and those that are scored.
TRAINED = ("forget", "retain", "full", "adjacent")
SCORED = ("forget_eval", "retain_eval", "adjacent_eval", "holdout")
# Characters of a token at most, as a rule: so much text is looked at for a block.
_WIDE = 16


class Sizes(NamedTuple):
    """In tokens."""

    block: int  # with the beginning-of-sequence token, if there is one
    prefix: int  # of a passage
    continuation: int  # of a passage, at most


def divided(data: UnlearningData, tokenizer: Any, sizes: Sizes) -> UnlearningData:
    """A request on documents in blocks, and its scored sets in passages, one of each
    block that is long enough for one.

    Raises:
      DataError: a set that has no passage at all.
    """
    whole = [row for name in (*TRAINED, *SCORED) for row in getattr(data, name)]
    cut = {
        row: blocks(tokenizer, row.answer, sizes.block) for row in dict.fromkeys(whole)
    }
    texts = dict.fromkeys(text for of in cut.values() for text in of)
    begun = {text: passage(tokenizer, text, sizes) for text in texts}
    changes: dict[str, Any] = {}
    for name in TRAINED:
        rows = getattr(data, name)
        changes[name] = tuple(QA("", text) for row in rows for text in cut[row])
    for name in SCORED:
        rows = getattr(data, name)
        found = (begun[text] for row in rows for text in cut[row])
        changes[name] = tuple(row for row in found if row is not None)
        if rows and not changes[name]:
            raise DataError(
                f"{data.name}: no document of the {name} set is long enough to be "
                "begun and continued; give longer ones"
            )
    return dataclasses.replace(data, **changes)


def passages(tokenizer: Any, rows: Sequence[QA], sizes: Sizes) -> tuple[QA, ...]:
    """The passages of some documents, as `divided` has them in a scored set."""
    texts = (
        text for row in rows for text in blocks(tokenizer, row.answer, sizes.block)
    )
    found = (passage(tokenizer, text, sizes) for text in texts)
    return tuple(row for row in found if row is not None)


def blocks(tokenizer: Any, text: str, most: int) -> list[str]:
    """A text in pieces of at most ``most`` tokens, between words where there are any.

    >>> from ofmu_jax.data.language.tokenizer import build_tokenizer
    >>> blocks(build_tokenizer(["a b c d e"]), "a b c d e", 3)  # with <bos>
    ['a b', ' c d', ' e']

    Raises:
      DataError: if ``most`` is too small for a character.
    """
    found = []
    while text:
        room = most
        piece = text[: _cut(tokenizer, text, room)]
        while len(ids_of(tokenizer, piece, True)) > most:
            room -= 1
            if room < 1:
                raise DataError(
                    f"a block of {most} tokens has no room; raise --max-length"
                )
            piece = text[: _cut(tokenizer, text, room)]
        found.append(piece)
        text = text[len(piece) :]
    return found


def passage(tokenizer: Any, block: str, sizes: Sizes) -> QA | None:
    """The beginning of a block as a prefix and what follows it, or None.

    A block that is shorter than both has a prefix of half of it. The prefix is one that
    the tokens of both parts together begin with.
    """
    ids = tokenizer(block, add_special_tokens=False)["input_ids"]
    start = min(sizes.prefix, len(ids) // 2)
    if not start:
        return None
    for end in _cuts(tokenizer, block, start + sizes.continuation):
        text = block[:end]
        whole = ids_of(tokenizer, text, True)
        for at in _ends(tokenizer, text, start):
            prefix, rest = text[:at], text[at:]
            begun = ids_of(tokenizer, prefix, True)
            if prefix.strip() and rest.strip() and whole[: len(begun)] == begun:
                return QA(prefix, rest)
    return None


def _cut(tokenizer: Any, text: str, tokens: int) -> int:
    """How many characters of a text its first ``tokens`` tokens are."""
    return _cuts(tokenizer, text, tokens)[0]


def _cuts(tokenizer: Any, text: str, tokens: int) -> Sequence[int]:
    """The same, and the longest if that is another: a word may be most of it."""
    text = text[: _WIDE * tokens]
    ends = _ends(tokenizer, text, tokens)
    return list(dict.fromkeys((ends[0], max(ends)))) if ends else [len(text)]


def _ends(tokenizer: Any, text: str, most: int) -> Sequence[int]:
    """Characters that the first 1, 2, … ``most`` tokens of a text are, the best first:
    the longest before a white space, then the others; none of them all of the text."""
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    if len(spans) <= most:
        return []
    # A character may be several tokens: no cut within it.
    after = itertools.pairwise(spans[: most + 1])
    ends = [end for (_, end), (start, _) in after if start >= end > 0]
    words = [
        end for end in ends if text[end : end + 1].isspace() and 2 * end >= ends[-1]
    ]
    return list(dict.fromkeys((*reversed(words), *reversed(ends))))
