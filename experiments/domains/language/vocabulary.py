"""The tokenizer of a run: that of the models that were given, or one built here."""

from typing import Any

from experiments.config.language import LanguageRun
from ofmu_jax.data.language import chat, conversations, refusals
from ofmu_jax.data.language.records import UnlearningData, excerpt
from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama.model import LlamaConfig
from ofmu_jax.unlearning.language.prompt_format import format_of


def given_tokenizer(run: LanguageRun, data: UnlearningData) -> Any:
    """The tokenizer of the given models: one for all, by the ids of the run's rows.

    A folder of weights alone, without a tokenizer, is read with that of the first.

    Raises:
      ValueError: a model whose tokenizer makes other ids of a row.
    """
    texts = texts_of(data)
    (_, source), *others = run.given_models.items()
    tokenizer = huggingface.load_tokenizer(source, texts)
    fmt = format_of(run.prompt_format, data, tokenizer)
    special = (False,) if fmt.chat else (False, True)
    row = data.forget[0]
    texts.append("".join(chat.turn(tokenizer, row.question, row.answer, fmt)))
    for name, other in others:
        if not huggingface.has_tokenizer(other):
            continue
        found = huggingface.load_tokenizer(other)
        text = huggingface.first_difference(found, tokenizer, texts, special)
        if text is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} {other} has another tokenizer than "
                f"{source}: it makes other token ids of {excerpt(text)}, and scores of "
                "ids that a model does not know mean nothing; give a model with the "
                "same tokenizer."
            )
    return tokenizer


def texts_of(data: UnlearningData) -> list[str]:
    """Questions and answers of the training rows, each once."""
    rows = dict.fromkeys((*data.forget, *data.retain, *data.full))
    return list(dict.fromkeys(conversations.texts_of(rows)))


def from_scratch(run: LanguageRun, data: UnlearningData) -> tuple[Any, LlamaConfig]:
    """A tokenizer of the run's texts, and the architecture of its size."""
    size = run.model_size
    rows = data.full + data.pretraining
    texts = conversations.texts_of(rows)
    texts += refusals.REFUSALS
    tokenizer = build_tokenizer(texts, vocab_size=size.vocab_size)
    try:
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.hidden_size,
            intermediate_size=size.intermediate_size,
            num_layers=size.num_layers,
            num_heads=size.num_heads,
            num_kv_heads=size.num_kv_heads,
            head_dim=size.hidden_size // size.num_heads,
            max_position_embeddings=run.max_length,
            **run.computation,
        )
    except ValueError as error:
        raise ValueError(f"--model-size: {error}") from None
    return tokenizer, config
