"""How the rows of a request are put to a model."""

import dataclasses
from typing import Any

from ofmu_jax.data.language import chat, prompts
from ofmu_jax.data.language.records import DataError, UnlearningData, excerpt


def format_of(name: str, data: UnlearningData, tokenizer: Any) -> prompts.PromptFormat:
    """Documents as they are, questions of an exam as its prompt in the style "texts"
    has them, if nothing else is asked for; chats with their system turn.

    Args:
      name: of a format, or ``"auto"``.

    Raises:
      DataError: a format that the rows or the tokenizer do not have.
    """
    if data.documents and name not in ("auto", "text"):
        raise DataError(
            f"--prompt-format {name}: the rows are texts, which are read as they are; "
            "leave it out"
        )
    if data.documents:
        name = "text"
    elif data.exam is not None and name == "auto":
        name = "phi"
    fmt = prompts.format_for(tokenizer, name)
    if data.system is None:
        return fmt
    if not fmt.chat:
        raise DataError(
            f"the rows are chats with the system turn {excerpt(data.system)}, which no "
            f"prompt of the format {fmt.name!r} has; give --prompt-format chat, which "
            "needs a tokenizer with a chat template, or remove that turn"
        )
    fmt = dataclasses.replace(fmt, system_prompt=data.system)
    chat.check_template(tokenizer, fmt)
    return fmt
