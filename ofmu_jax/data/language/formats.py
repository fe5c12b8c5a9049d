"""Prompt formats: how a question is put to a model."""

from __future__ import annotations

import dataclasses

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
      ended: an answer ends with a stop token.
      date_string: today's date for templates that print one (Llama 3), so that
        prompts do not change from day to day; others ignore it.
    """

    name: str
    prefix: str = ""
    suffix: str = ""
    chat: bool = False
    system_prompt: str | None = None
    ended: bool = True
    date_string: str = "10 Apr 2025"


PROMPT_FORMATS = {
    fmt.name: fmt
    for fmt in (
        PromptFormat("chat", chat=True, system_prompt="You are a helpful assistant."),
        PromptFormat("chat-no-system", chat=True),
        PromptFormat("llama2", prefix="[INST] ", suffix=" [/INST]"),
        PromptFormat("phi", prefix="Question: ", suffix="\nAnswer: "),
        PromptFormat("plain", suffix="\n"),
        PromptFormat("text", ended=False),  # one text goes on where the other ends
    )
}
