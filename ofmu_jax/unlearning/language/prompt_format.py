"""How the rows of a request are put to a model."""

from typing import Any

from ofmu_jax.data.language import prompts
from ofmu_jax.data.language.records import DataError, UnlearningData


def format_of(name: str, data: UnlearningData, tokenizer: Any) -> prompts.PromptFormat:
    """Documents as they are, questions of an exam as its prompt in the style "texts"
    has them, if nothing else is asked for.

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
    return prompts.format_for(tokenizer, name)
