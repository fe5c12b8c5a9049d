"""From a question and an answer to token ids, labels and attention masks.

The formats are those of the public TOFU evaluations (open-unlearning), so that scores
can be compared number by number; where those differ from what is right, both
behaviours are offered and the right one is the default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ofmu_jax.data.language.control_tokens import check_plain
from ofmu_jax.data.language.padding import IGNORE as IGNORE
from ofmu_jax.data.language.padding import Batch as Batch
from ofmu_jax.data.language.padding import Encoded as Encoded
from ofmu_jax.data.language.padding import InteriorEot as InteriorEot
from ofmu_jax.data.language.padding import pad_id_of as pad_id_of
from ofmu_jax.data.language.padding import pad_left as pad_left
from ofmu_jax.data.language.padding import pad_right as pad_right
from ofmu_jax.data.language.padding import padded_length as padded_length
from ofmu_jax.data.language.records import QA, DataError, excerpt

# The chat template of the embedded tokenizer; says the same as the "plain" format.
PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)


@dataclasses.dataclass(frozen=True)
class PromptFormat:
    """How a question is put to the model.

    Attributes:
      name: key in `PROMPT_FORMATS`.
      prefix: text before the question (no chat template).
      suffix: text between question and answer (no chat template).
      chat: use the tokenizer's chat template instead.
      system_prompt: system turn of the chat; None for no such turn.
      date_string: today's date for templates that print one (Llama 3), so that
        prompts do not change from day to day; others ignore it.
    """

    name: str
    prefix: str = ""
    suffix: str = ""
    chat: bool = False
    system_prompt: str | None = None
    date_string: str = "10 Apr 2025"


PROMPT_FORMATS = {
    fmt.name: fmt
    for fmt in (
        PromptFormat("chat", chat=True, system_prompt="You are a helpful assistant."),
        PromptFormat("chat-no-system", chat=True),
        PromptFormat("llama2", prefix="[INST] ", suffix=" [/INST]"),
        PromptFormat("phi", prefix="Question: ", suffix="\nAnswer: "),
        PromptFormat("plain", suffix="\n"),
    )
}


def format_for(tokenizer: Any, name: str = "auto") -> PromptFormat:
    """The prompt format called ``name``, or the one that fits the tokenizer.

    Raises:
      DataError: unknown name, or "auto" for a tokenizer without a chat template.
    """
    known = ", ".join(PROMPT_FORMATS)
    template = getattr(tokenizer, "chat_template", None)
    if name == "auto":
        name = _detect(tokenizer, template, known)
    if name not in PROMPT_FORMATS:
        raise DataError(f"unknown prompt format {name!r}; known formats: auto, {known}")
    if PROMPT_FORMATS[name].chat and not template:
        raise DataError(
            f"prompt format {name!r} needs a chat template and the tokenizer "
            f"{tokenizer.name_or_path!r} has none; choose another of: {known}"
        )
    return PROMPT_FORMATS[name]


def _detect(tokenizer: Any, template: Any, known: str) -> str:
    if not template:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template to detect "
            f"its prompt format from; name the format, one of: {known}"
        )
    if template == PLAIN_CHAT_TEMPLATE:
        return "plain"
    if isinstance(template, str) and "<<SYS>>" in template:
        return "llama2"
    try:
        _chat_ids(tokenizer, "?", None, PROMPT_FORMATS["chat"])
    except Exception:  # raise_exception in the template: it knows no system turn
        return "chat-no-system"
    return "chat"


def encode_prompt(
    tokenizer: Any,
    question: str,
    fmt: PromptFormat,
    *,
    control_text: Literal["error", "compat"] = "error",
) -> np.ndarray:
    """Token ids up to where the answer begins, as generation needs them. int32[L]

    Raises:
      DataError: for a question that spells out a control token, unless
        ``control_text`` is "compat".
    """
    if control_text == "error":
        check_plain(tokenizer, "question", question)
    return np.asarray(_ids(tokenizer, question, None, fmt), np.int32)


def encode(
    tokenizer: Any,
    question: str,
    answer: str,
    fmt: PromptFormat,
    max_length: int | None = None,
    *,
    on_overlength: Literal["error", "truncate"] = "error",
    on_prefix_mismatch: Literal["error", "compat"] = "error",
    after_eos: Literal["cut", "compat"] = "cut",
    control_text: Literal["error", "compat"] = "error",
) -> Encoded:
    """Tokenises question and answer; labels are -100 on the prompt.

    The end-of-sequence id is appended unless the ids end with it already. As in
    open-unlearning the prompt is tokenised on its own to find where the answer
    begins; other than there, it is checked that its ids begin the whole.

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
      on_overlength: "truncate" cuts the end of the answer instead of refusing.
      on_prefix_mismatch: "compat" goes on with the prompt's length alone if the
        prompt's ids do not begin the whole.
      after_eos: ChatML templates (Qwen, SmolLM2) put a line break after the
        end-of-turn token that ends the answer. "cut" drops it; "compat" scores it
        and a second end-of-turn token after it, as open-unlearning does.
      control_text: "compat" lets the spelling of a special token in question or
        answer, such as "</s>", become that token; "error" refuses it.

    Raises:
      DataError: naming the example; too long, no prefix, a control token spelled
        out, or no label left.
    """
    if control_text == "error":
        check_plain(tokenizer, "question", question)
        check_plain(tokenizer, "answer", answer)
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"the tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token; "
            "set tokenizer.eos_token"
        )
    prompt = _ids(tokenizer, question, None, fmt)
    ids = _ids(tokenizer, question, answer, fmt)
    if after_eos == "cut":
        ids = _cut_after_eos(tokenizer, ids, len(prompt))
    if ids[-1:] != [tokenizer.eos_token_id]:
        ids = [*ids, tokenizer.eos_token_id]
    if on_prefix_mismatch == "error":
        _check_prefix(prompt, ids, question, fmt)
    if max_length is not None and len(ids) > max_length:
        if on_overlength == "error":
            raise DataError(
                f"question {excerpt(question)}: {len(ids)} tokens, more than "
                f"max_length={max_length}; shorten the row, or raise max_length "
                "(--max-length) as far as the model has positions"
            )
        ids = ids[:max_length]
    if len(prompt) >= len(ids):
        raise DataError(
            f"question {excerpt(question)}: no token of the answer {excerpt(answer)} "
            f"is left to score ({len(prompt)} prompt tokens of {len(ids)}); raise "
            "max_length or give a longer answer"
        )
    input_ids = np.asarray(ids, np.int32)
    labels = input_ids.copy()
    labels[: len(prompt)] = IGNORE
    return Encoded(input_ids, labels, len(prompt))


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


def _cut_after_eos(tokenizer: Any, ids: list[int], start: int) -> list[int]:
    """Drops white space behind the last end-of-sequence id from ``start`` on."""
    for end in range(len(ids), start, -1):
        if ids[end - 1] == tokenizer.eos_token_id:
            return ids if tokenizer.decode(ids[end:]).strip() else ids[:end]
    return ids


def encode_rows(
    tokenizer: Any, rows: Sequence[QA], fmt: PromptFormat, *args, **kwargs
) -> list[Encoded]:
    """`encode` for every row; an error names the row (from 1)."""
    encoded = []
    for number, row in enumerate(rows, 1):
        try:
            encoded.append(
                encode(tokenizer, row.question, row.answer, fmt, *args, **kwargs)
            )
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
    return encoded


def _ids(
    tokenizer: Any, question: str, answer: str | None, fmt: PromptFormat
) -> list[int]:
    if fmt.chat:
        ids = _chat_ids(tokenizer, question, answer, fmt)
    else:
        text = fmt.prefix + question + fmt.suffix + (answer or "")
        ids = list(tokenizer(text, add_special_tokens=True)["input_ids"])
        if answer is None and ids[-1:] == [tokenizer.eos_token_id]:
            ids = ids[:-1]  # added by the tokenizer; the answer is yet to come
    bos = tokenizer.bos_token_id
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    return ids


def _chat_ids(
    tokenizer: Any, question: str, answer: str | None, fmt: PromptFormat
) -> list[int]:
    messages = [{"role": "user", "content": question}]
    if fmt.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": fmt.system_prompt})
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    encoding = tokenizer.apply_chat_template(
        messages,
        tokenize=True,
        return_dict=True,
        add_generation_prompt=answer is None,
        date_string=fmt.date_string,
    )
    return list(encoding["input_ids"])
