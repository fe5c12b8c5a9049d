"""Where a prompt's token ids end and an answer's begin."""

from __future__ import annotations

import functools
import itertools
from typing import Any

_BEGINNINGS = ("A", "7", '"', "中")  # of answers, each of another kind
# How tokens spell the white space that they begin with.
_SPELLINGS = {" ": ("Ġ", "▁", " "), "\n": ("Ċ", "\n"), "\t": ("ĉ", "\t")}


def ids_of(tokenizer: Any, text: str, special: bool) -> list[int]:
    """Ids of a text, with one beginning-of-sequence token at most.

    Args:
      special: add what the tokenizer puts around any text.
    """
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    bos = tokenizer.bos_token_id
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    return ids


def ids_alone(tokenizer: Any, text: str, special: bool) -> tuple[int, ...]:
    """The same, less the end that some tokenizers put behind any text."""
    ids = tuple(ids_of(tokenizer, text, special))
    return ids[:-1] if special and ids[-1:] == (tokenizer.eos_token_id,) else ids


@functools.lru_cache(maxsize=8192)
def prompt_ids(tokenizer: Any, text: str, special: bool) -> tuple[int, ...]:
    """Ids of a prompt with which its ids together with any answer begin.

    Those of the text alone, unless the tokenizer merges its last characters with what
    follows, such as a space with a word: then as far as all answers leave them, so
    that the space belongs to the answer. They do not depend on the answer: generation
    starts where scores do.
    """
    alone = ids_alone(tokenizer, text, special)
    answers = (*_BEGINNINGS, *_merging(tokenizer, text[-1:]))
    wholes = [tuple(ids_of(tokenizer, text + answer, special)) for answer in answers]
    if all(ids[: len(alone)] == alone for ids in wholes):
        return alone
    unknown = getattr(tokenizer, "unk_token_id", None)
    common = itertools.takewhile(
        lambda column: len(set(column)) == 1 and column[0] != unknown,
        zip(*wholes, strict=False),
    )
    kept, core = [column[0] for column in common], text.rstrip()
    words = ids_alone(tokenizer, core, special)
    # More than white space would go over to the answer: `encode` refuses such a row.
    return tuple(kept) if tuple(kept[: len(words)]) == words else alone


@functools.lru_cache(maxsize=64)
def _merging(tokenizer: Any, last: str) -> tuple[str, ...]:
    """Words that tokens hold together with this white space before them: the shortest
    of letters, of digits and of other characters."""
    if last not in _SPELLINGS:
        return ()
    words = {
        token[len(space) :]
        for token in getattr(tokenizer, "get_vocab", dict)()
        for space in _SPELLINGS[last]
        if token.startswith(space) and token[len(space) :].strip()
    }
    found = {}
    for word in sorted(filter(str.isascii, words), key=lambda word: (len(word), word)):
        kind = word[0].isalpha(), word[0].isdigit()
        found.setdefault(kind, word)
    return tuple(found.values())
