"""From a question and an answer to token ids, labels and attention masks.

The formats are those of the public TOFU evaluations (open-unlearning), so that scores
can be compared number by number; where those differ from what is right, both
behaviours are offered and the right one is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ofmu_jax.data.language import boundary, chat
from ofmu_jax.data.language.control_tokens import check_plain
from ofmu_jax.data.language.formats import PLAIN_CHAT_TEMPLATE as PLAIN_CHAT_TEMPLATE
from ofmu_jax.data.language.formats import PROMPT_FORMATS as PROMPT_FORMATS
from ofmu_jax.data.language.formats import PromptFormat as PromptFormat
from ofmu_jax.data.language.padding import IGNORE as IGNORE
from ofmu_jax.data.language.padding import Batch as Batch
from ofmu_jax.data.language.padding import Encoded as Encoded
from ofmu_jax.data.language.padding import InteriorEot as InteriorEot
from ofmu_jax.data.language.padding import attended as attended
from ofmu_jax.data.language.padding import pad_id_of as pad_id_of
from ofmu_jax.data.language.padding import pad_left as pad_left
from ofmu_jax.data.language.padding import pad_right as pad_right
from ofmu_jax.data.language.padding import padded_length as padded_length
from ofmu_jax.data.language.records import QA, DataError, excerpt


def format_for(tokenizer: Any, name: str = "auto") -> PromptFormat:
    """The prompt format called ``name``, or the one that fits the tokenizer.

    Raises:
      DataError: unknown name, a chat template that cannot be used, or "auto" for a
        tokenizer without one.
    """
    known = ", ".join(PROMPT_FORMATS)
    if name == "auto":
        name = _detect(tokenizer, chat.template_of(tokenizer), known)
    if name not in PROMPT_FORMATS:
        raise DataError(f"unknown prompt format {name!r}; known formats: auto, {known}")
    if not PROMPT_FORMATS[name].chat:
        return PROMPT_FORMATS[name]
    if not chat.template_of(tokenizer):
        raise DataError(
            f"prompt format {name!r} needs a chat template and the tokenizer "
            f"{tokenizer.name_or_path!r} has none; choose another of: {known}"
        )
    chat.check_template(tokenizer, PROMPT_FORMATS[name])
    return PROMPT_FORMATS[name]


def _detect(tokenizer: Any, template: str | None, known: str) -> str:
    if not template:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template to detect "
            f"its prompt format from; name a --prompt-format, one of: {known}"
        )
    if template == PLAIN_CHAT_TEMPLATE:
        return "plain"
    if "<<SYS>>" in template:
        return "llama2"
    try:
        chat.check_template(tokenizer, PROMPT_FORMATS["chat"])
    except DataError:  # raise_exception in the template: it knows no system turn
        return "chat-no-system"
    return "chat"


def stop_ids(
    tokenizer: Any, fmt: PromptFormat, declared: Sequence[int] = ()
) -> tuple[int, ...]:
    """Every token that ends an answer; generation ends at each of them.

    Those of the tokenizer (its eos token), of the generation config, and of the chat
    template (the token that it puts behind an answer) may be three different ones.

    Args:
      declared: end-of-sequence ids of the generation config.

    Raises:
      DataError: there is none, or the template ends answers with other text.
    """
    eos = tokenizer.eos_token_id
    found: list[int | None] = [eos, *declared]
    if fmt.chat:
        end = chat.turn(tokenizer, "?", "!", fmt).end
        found.append(chat.closing(tokenizer, end, found)[1])
    stops = tuple(stop for stop in dict.fromkeys(found) if stop is not None)
    if not stops:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token; "
            "set eos_token in tokenizer_config.json"
        )
    return stops


def encode_prompt(
    tokenizer: Any,
    question: str,
    fmt: PromptFormat,
    *,
    after_eos: Literal["cut", "compat"] = "cut",
    control_text: Literal["error", "compat"] = "error",
) -> np.ndarray:
    """Token ids up to where the answer begins, as generation needs them. int32[L]

    They are the prompt ids of `encode`, where the arguments are explained.

    Raises:
      DataError: for a question that spells out a control token, unless
        ``control_text`` is "compat", or a chat template that cannot be used.
    """
    if control_text == "error":
        check_plain(tokenizer, "question", question)
    if after_eos == "compat":
        text = chat.published(tokenizer, question, None, fmt)
    else:
        text = chat.before_answer(tokenizer, question, fmt)
    return np.asarray(boundary.prompt_ids(tokenizer, text, not fmt.chat), np.int32)


def encode(
    tokenizer: Any,
    question: str,
    answer: str,
    fmt: PromptFormat,
    max_length: int | None = None,
    *,
    positions: int | None = None,
    declared_stops: Sequence[int] = (),
    on_overlength: Literal["error", "truncate"] = "error",
    on_prefix_mismatch: Literal["error", "compat"] = "error",
    after_eos: Literal["cut", "compat"] = "cut",
    control_text: Literal["error", "compat"] = "error",
) -> Encoded:
    """Tokenises question and answer; labels are -100 on the prompt.

    The answer ends with the token that the chat template puts behind it, else with the
    tokenizer's end-of-sequence token; in the format "text" with neither. What the
    template says before the answer in the assistant's turn is part of the prompt. White
    space at the end of a format, which byte-level tokenizers merge with the answer's
    first word, belongs to the answer.

    >>> from ofmu_jax.data.language.tokenizer import build_tokenizer
    >>> tokenizer = build_tokenizer(["What?\\nPoems."], vocab_size=300)
    >>> example = encode(tokenizer, "What?", "Poems.", PROMPT_FORMATS["plain"])
    >>> tokenizer.convert_ids_to_tokens(example.input_ids)
    ['<bos>', 'What', '?', 'Ċ', 'Poems', '.', '<eos>']
    >>> example.labels[: example.prompt_length].tolist()
    [-100, -100, -100, -100]

    Args:
      fmt: the prompt format, see `format_for`.
      max_length: largest number of ids; None for no limit.
      positions: how many the model has, if ``max_length`` may be that.
      declared_stops: end-of-sequence ids of the generation config, see `stop_ids`.
      on_overlength: "truncate" cuts the end of the answer instead of refusing.
      on_prefix_mismatch: "compat" goes on with the prompt's length alone if the
        prompt's ids do not begin the whole.
      after_eos: "compat" scores what open-unlearning does: the line break that ChatML
        templates (Qwen, SmolLM2) put behind the end-of-turn token, a second end
        after it, and what a template says before the answer.
      control_text: "compat" lets the spelling of a special token in question or
        answer, such as "</s>", become that token; "error" refuses it.

    Raises:
      DataError: naming the example; too long, no prefix, a control token spelled
        out, a chat template that cannot be used, or no label left.
    """
    if control_text == "error":
        check_plain(tokenizer, "question", question)
        check_plain(tokenizer, "answer", answer)
    if after_eos == "compat":
        text = chat.published(tokenizer, question, None, fmt)
        whole, closed = chat.published(tokenizer, question, answer, fmt), False
    else:
        parts = chat.turn(tokenizer, question, answer, fmt)
        stops = {tokenizer.eos_token_id, *declared_stops}
        end, stop = chat.closing(tokenizer, parts.end, stops)
        text, closed = parts.before, stop is not None
        whole = parts.before + parts.answer + end
    checked = on_prefix_mismatch == "error"
    prompt_ids = boundary.prompt_ids if checked else boundary.ids_alone
    special = not fmt.chat  # a template writes the special tokens itself
    prompt = list(prompt_ids(tokenizer, text, special))
    ids = boundary.ids_of(tokenizer, whole, special)
    if fmt.ended and not closed:
        ids = _ended(ids, _eos_id(tokenizer, declared_stops))
    if checked:
        _check_prefix(prompt, ids, question, fmt)
    if max_length is not None and len(ids) > max_length:
        if on_overlength == "error":
            raise DataError(
                f"question {excerpt(question)}: {len(ids)} tokens with the answer, "
                f"more than {_limit(max_length, positions)}"
            )
        ids = ids[:max_length]
    start = max(len(prompt), 1)  # the first token of all has nothing to predict it
    if start >= len(ids):
        raise DataError(
            f"question {excerpt(question)}: no token of the answer {excerpt(answer)} "
            f"is left to score ({len(prompt)} prompt tokens of {len(ids)}); raise "
            "--max-length or give a longer answer"
        )
    input_ids = np.asarray(ids, np.int32)
    labels = input_ids.copy()
    labels[:start] = IGNORE
    return Encoded(input_ids, labels, len(prompt))


def encode_rows(
    tokenizer: Any,
    rows: Sequence[QA],
    fmt: PromptFormat,
    *args,
    known: dict[tuple[str, str], Encoded] | None = None,
    **kwargs,
) -> list[Encoded]:
    """`encode` for every row; an error names the row (from 1).

    Args:
      known: (question, answer) -> what the same arguments made of it before; what is
        new is put there.
    """
    known = {} if known is None else known
    encoded = []
    for number, row in enumerate(rows, 1):
        pair = row.question, row.answer
        try:
            if pair not in known:
                known[pair] = encode(tokenizer, *pair, fmt, *args, **kwargs)
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
        encoded.append(known[pair])
    return encoded


def _limit(max_length: int, positions: int | None) -> str:
    """What is exceeded, and the way out."""
    if positions is not None and max_length >= positions:
        return f"the {positions} positions of the model; shorten the row"
    return f"the {max_length} of --max-length; shorten the row or raise --max-length"


def _check_prefix(
    prompt: list[int], ids: list[int], question: str, fmt: PromptFormat
) -> None:
    if ids[: len(prompt)] == prompt:
        return
    differs = [a != b for a, b in zip(ids, prompt, strict=False)]
    at = differs.index(True) if True in differs else len(ids)
    raise DataError(
        f"question {excerpt(question)}: in the format {fmt.name!r} the ids of prompt "
        f"and answer together depart from those of the prompt at position {at} of "
        f"{len(prompt)}; choose another prompt format (--prompt-format)"
    )


def _eos_id(tokenizer: Any, declared: Sequence[int]) -> int:
    """The token that ends an answer which no template ends."""
    return stop_ids(tokenizer, PROMPT_FORMATS["plain"], declared)[0]


def _ended(ids: list[int], eos: int) -> list[int]:
    return ids if ids[-1:] == [eos] else [*ids, eos]
