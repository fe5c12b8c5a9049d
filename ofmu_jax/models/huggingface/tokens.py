"""Tokens of a Hugging Face folder: the tokenizer of its files, and what ends a text."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import tokenizers
import transformers

from ofmu_jax.models.other_formats import pointer
from ofmu_jax.models.tensor_files import ModelError

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
# Digits, cases, runs of white space, other scripts, contractions, code.
PROBES = (
    "The year 1234567 was 3.14 times HELLO World's, wasn't it?",
    " leading,  two   spaces\n\nand\n \tlines \r\n end ",
    "Ünïcodé ﬁne 中文字 日本語 русский हिन्दी 🙂 e\u0301",
    "def f(x): return x**2 + {'a': [1, 2]} # <b>&amp;</b>",
    "Who?\nAnswer: Ann.",
)


def checked_tokenizer(folder: pathlib.Path, texts: Sequence[str] = ()) -> Any:
    """The tokenizer of a folder, whose ids are those of its ``tokenizer.json``.

    transformers chooses a class by names in the configs, and some classes build a
    tokenizer of their own out of the file's vocabulary. Where its ids differ, the file
    itself is loaded.

    Args:
      texts: to compare besides `PROBES`.

    Raises:
      ModelError: ids that still differ, or are drawn at random.
    """
    load = lambda auto: auto.from_pretrained(folder, trust_remote_code=False)
    if not (folder / "tokenizer.json").is_file():
        return load(transformers.AutoTokenizer)
    if said := pointer(folder / "tokenizer.json"):
        raise ModelError(f"tokenizer.json in {folder} {said}.")
    file = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    file.no_truncation()
    file.no_padding()
    if getattr(file.model, "dropout", None):
        raise ModelError(
            f"tokenizer.json in {folder} has a dropout of {file.model.dropout}: its "
            "ids are drawn at random; set dropout to null there."
        )
    # Some take the white space around them along.
    added = (token.content for token in file.get_added_tokens_decoder().values())
    texts = [*PROBES, *(f"a{token}\nb {token} {token}c" for token in added), *texts]
    special = (False,) if _says_ends(folder) else (False, True)
    try:
        tokenizer = load(transformers.AutoTokenizer)
    except Exception:  # a class that cannot use the file; the file itself may do
        tokenizer = load(transformers.PreTrainedTokenizerFast)
    if first_difference(tokenizer, file, texts, special) is None:
        return tokenizer
    tokenizer = load(transformers.PreTrainedTokenizerFast)
    if first_difference(tokenizer, file, texts, special) is None:
        return tokenizer
    tokenizer = _of_file(folder / "tokenizer.json", tokenizer)
    text = first_difference(tokenizer, file, texts, special)
    if text is not None:
        raise ModelError(
            f"the tokenizer of {folder} does not give the ids of its tokenizer.json "
            f"(such as for {text[:60]!r}); copy the tokenizer's files again."
        )
    return tokenizer


def _of_file(path: pathlib.Path, like: Any) -> Any:
    """The tokenizer of a file, whatever a config says of its added tokens."""
    special = {
        name: token
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (token := getattr(like, name)) is not None
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        name_or_path=like.name_or_path,
        chat_template=like.chat_template,
        clean_up_tokenization_spaces=like.clean_up_tokenization_spaces,
        **special,
    )


def first_difference(
    tokenizer: Any,
    other: Any,
    texts: Sequence[str],
    special: Sequence[bool] = (False, True),
) -> str | None:
    """The first text of which two tokenizers make different ids, or None.

    Args:
      other: of transformers or of tokenizers.
      special: without what they put around any text, with it, or both.
    """
    for text in texts:
        for around in special:
            try:
                if _ids(tokenizer, text, around) != _ids(other, text, around):
                    return text
            except Exception:  # an unknown token that the vocabulary lacks
                return text
    return None


def has_tokenizer(folder: pathlib.Path) -> bool:
    """Whether one of a tokenizer's `FILES` is there."""
    return any((folder / name).is_file() for name in FILES)


def declared_stops(folder: pathlib.Path) -> tuple[int, ...]:
    """End-of-sequence ids of generation_config.json, else of config.json.

    Raises:
      ModelError: if they are neither an id nor a list of ids.
    """
    for name in ("generation_config.json", "config.json"):
        found = _read(folder / name).get("eos_token_id")
        if found is None:
            continue
        ids = found if isinstance(found, list) else [found]
        if not all(type(i) is int and i >= 0 for i in ids):
            raise ModelError(
                f"eos_token_id in {folder / name} is {found!r}; give a token id or a "
                "list of token ids."
            )
        return tuple(dict.fromkeys(ids))
    return ()


def _ids(tokenizer: Any, text: str, special: bool) -> list[int]:
    if isinstance(tokenizer, tokenizers.Tokenizer):
        return tokenizer.encode(text, add_special_tokens=special).ids
    return tokenizer(text, add_special_tokens=special)["input_ids"]


def _says_ends(folder: pathlib.Path) -> bool:
    """Whether the config says what is put around a text, other than the file does."""
    config = _read(folder / "tokenizer_config.json")
    names = ("add_bos_token", "add_eos_token")
    return any(config.get(name) is not None for name in names)


def _read(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no readable JSON ({error}); copy it again.") from (
            None
        )
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object; copy it again.")
    return found
