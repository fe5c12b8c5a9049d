"""What a chat template puts before and after an answer.

A template is a program; the text that it makes of a question and an answer is cut where
the answer lies, so that all else in the assistant's turn belongs to the prompt, such as
the empty think block of Qwen 3, or to its end.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

from ofmu_jax.data.language.conversations import turns_of
from ofmu_jax.data.language.formats import PROMPT_FORMATS, PromptFormat
from ofmu_jax.data.language.records import DataError, excerpt
from ofmu_jax.data.language.templates import TemplateError, render

# Reasoning models think before they answer; here they are asked for the answer alone.
NO_THINKING = {"enable_thinking": False, "thinking": False}


def template_of(tokenizer: Any) -> str | None:
    """The chat template of a tokenizer: of several the one called "default".

    Raises:
      DataError: something else than templates, or several without a default.
    """
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        if "default" not in found:
            raise _refusal(
                tokenizer, f"of several ({', '.join(found)}) none is called 'default'"
            )
        found = found["default"]
    if found is not None and not isinstance(found, str):
        raise _refusal(tokenizer, f"it is a {type(found).__name__}, not a text")
    return found


class Turn(NamedTuple):
    """A question with its answer as one text, in three parts."""

    before: str  # up to where the answer begins
    answer: str  # as the template writes it: some strip white space
    end: str  # what comes behind the answer


def turn(tokenizer: Any, question: str, answer: str, fmt: PromptFormat) -> Turn:
    """The parts of a question and its answer in a prompt format.

    Raises:
      DataError: a template that cannot be rendered, leaves out question or answer, or
        says something else than the answer.
    """
    if not fmt.chat:
        return Turn(_plainly(question, fmt), answer, "")
    check_template(tokenizer, fmt)
    mark = _unused(question)
    marked, whole = _rendered(tokenizer, fmt, [(question, mark), (question, answer)])
    before, end = _around(tokenizer, marked, mark)
    for said in turns_of(question):
        if _squeezed(said) not in _squeezed(before):
            raise _refusal(tokenizer, f"it leaves out the question {excerpt(said)}")
    inner = whole[len(before) : len(whole) - len(end)]
    if before + inner + end != whole or inner.strip() != answer.strip():
        raise _refusal(tokenizer, f"it does not say the answer {excerpt(answer)} as is")
    return Turn(before, inner, end)


def before_answer(tokenizer: Any, question: str, fmt: PromptFormat) -> str:
    """The text of a question up to where an answer begins; see `turn`."""
    return turn(tokenizer, question, _unused(question), fmt).before


def published(
    tokenizer: Any, question: str, answer: str | None, fmt: PromptFormat
) -> str:
    """The text as open-unlearning makes it: a prompt for generation, or the whole."""
    if not fmt.chat:
        return _plainly(question, fmt) + (answer or "")
    return _rendered(tokenizer, fmt, [(question, answer)], variables={})[0]


@functools.lru_cache(maxsize=32)
def check_template(tokenizer: Any, fmt: PromptFormat) -> None:
    """Refuses a chat template that no question can be put with.

    Raises:
      DataError: it cannot be rendered, or leaves out the question or the answer.
    """
    question, answer = _unused(""), _unused(_unused(""))
    whole = _rendered(tokenizer, fmt, [(question, answer)])[0]
    if question not in _around(tokenizer, whole, answer)[0]:
        raise _refusal(tokenizer, "it leaves out the question")


def closing(
    tokenizer: Any, end: str, stops: Iterable[int | None]
) -> tuple[str, int | None]:
    """The end of an answer's text up to the token that closes the turn, and its id.

    Args:
      end: what the template puts behind the answer, as in `Turn`.
      stops: ids that end an answer for the tokenizer or its generation config. Any
        other added token, such as ``<|im_end|>``, closes a turn as well if it is what
        comes next.

    Returns:
      ``("", None)`` where nothing but white space, or what the tokenizer drops, comes
      behind an answer.

    Raises:
      DataError: for any other text.
    """
    rest = end.lstrip()
    ids = tokenizer(rest, add_special_tokens=False)["input_ids"] if rest else []
    if not ids:
        return "", None
    first = ids[0]
    token = tokenizer.convert_ids_to_tokens(first)
    added = first in tokenizer.added_tokens_decoder and first != tokenizer.bos_token_id
    if (added or first in stops) and rest.startswith(token):
        return end[: len(end) - len(rest)] + token, first
    raise _refusal(
        tokenizer,
        f"it ends an answer with {excerpt(rest)}, which begins with no stop token; "
        "list that token under eos_token_id in generation_config.json",
    )


def _around(tokenizer: Any, text: str, mark: str) -> tuple[str, str]:
    """What lies before and after the one place of an answer."""
    match text.split(mark):
        case [before, after]:
            return before, after
        case [_]:
            raise _refusal(tokenizer, "it leaves out the answer")
        case parts:
            raise _refusal(tokenizer, f"it says the answer {len(parts) - 1} times")


def _rendered(
    tokenizer: Any,
    fmt: PromptFormat,
    pairs: list[tuple[str, str | None]],
    variables: dict[str, Any] = NO_THINKING,
) -> list[str]:
    """Texts of questions with their answers, or of questions that wait for one."""
    try:
        return render(
            template_of(tokenizer) or "",
            [
                {
                    **tokenizer.special_tokens_map,
                    "messages": _messages(question, answer, fmt),
                    "tools": None,
                    "documents": None,
                    "add_generation_prompt": answer is None,
                    "date_string": fmt.date_string,
                    **variables,
                }
                for question, answer in pairs
            ],
        )
    except TemplateError as error:
        raise _refusal(tokenizer, str(error)) from None


def _messages(question: str, answer: str | None, fmt: PromptFormat) -> list[dict]:
    sides = itertools.cycle(("user", "assistant"))
    said = [
        ("system", fmt.system_prompt),
        *zip(sides, turns_of(question), strict=False),
    ]
    said.append(("assistant", answer))
    return [{"role": role, "content": text} for role, text in said if text is not None]


def _plainly(question: str, fmt: PromptFormat) -> str:
    """The prompt of a format without a chat template."""
    if len(turns := turns_of(question)) > 1:
        raise DataError(
            f"question {excerpt(question)} is a conversation of {len(turns)} "
            f"turns, and the prompt format {fmt.name!r} holds one; choose "
            "--prompt-format chat, which needs a tokenizer with a chat template, or "
            "write one question with what one must know in it"
        )
    return fmt.prefix + question + fmt.suffix


def _refusal(tokenizer: Any, reason: str) -> DataError:
    others = ", ".join(name for name, fmt in PROMPT_FORMATS.items() if not fmt.chat)
    return DataError(
        f"the chat template of {tokenizer.name_or_path!r} cannot be used: {reason}; "
        "mend it (chat_template.jinja, or chat_template in tokenizer_config.json), or "
        f"choose a --prompt-format without one: {others}"
    )


def _unused(text: str) -> str:
    """A letter of the private use area that is not in the text."""
    return next(c for c in map(chr, range(0xE000, 0xF900)) if c not in text)


def _squeezed(text: str) -> str:
    return " ".join(text.split())
