"""Special tokens that are spelled out in a row."""

from __future__ import annotations

import functools
import re
from typing import Any

from ofmu_jax.data.language.records import DataError, excerpt

_TAG = re.compile(r"[<\[].*[>\]]$")  # a word or a line break is no control token


def control_token_in(tokenizer: Any, text: str) -> str | None:
    """A special token of the tokenizer that is spelled out in ``text``, or None.

    Tokenizers turn such a spelling into the token itself, so that a row could end an
    answer or open a turn.

    >>> from ofmu_jax.data.language.tokenizer import build_tokenizer
    >>> tokenizer = build_tokenizer(["a"], vocab_size=300)
    >>> control_token_in(tokenizer, "It is <eos>"), control_token_in(tokenizer, "</s>")
    ('<eos>', None)
    """
    listed = tuple(getattr(tokenizer, "all_special_tokens", ()))
    template = str(getattr(tokenizer, "chat_template", ""))
    found = (token for token in _special(tokenizer, listed, template) if token in text)
    return next(found, None)


@functools.lru_cache(maxsize=16)
def _special(tokenizer: Any, listed: tuple[str, ...], template: str) -> tuple[str, ...]:
    """Spellings of special tokens; templates use some that the tokenizer's fields do
    not list, or that its files do not call special."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    more = (
        token.content
        for token in added
        if token.special or (_TAG.match(token.content) and token.content in template)
    )
    return tuple(dict.fromkeys((*listed, *more)))


def check_plain(tokenizer: Any, name: str, text: str) -> None:
    """Refuses a text that spells out a control token.

    Raises:
      DataError: quoting the text, after its ``name``.
    """
    if (token := control_token_in(tokenizer, text)) is not None:
        raise DataError(
            f"{name} {excerpt(text)}: holds {token!r}, which the tokenizer "
            f"{tokenizer.name_or_path!r} reads as a control token; reword the row or "
            "put a space into it"
        )
