"""Texts that were tokenised, kept for the next time, in a process and on disk."""

import json
import pathlib
from typing import NamedTuple

import numpy as np

from ofmu_jax.data.language.padding import IGNORE, Encoded


class Tokens(NamedTuple):
    """What one tokenizer made of texts, by one set of conventions."""

    rows: dict[tuple[str, str], Encoded]  # of a question and an answer
    prompts: dict[str, np.ndarray]  # of a question


def save(path: pathlib.Path, tokens: Tokens, made_from: str) -> None:
    """Writes them to one file.

    Args:
      made_from: fingerprint of the tokenizer and all that its ids depend on.
    """
    rows, prompts = tokens
    texts = {"made_from": made_from, "rows": list(rows), "prompts": list(prompts)}
    ids = [*(row.input_ids for row in rows.values()), *prompts.values()]
    np.savez_compressed(
        path,
        texts=np.frombuffer(json.dumps(texts).encode(), np.uint8),
        ids=np.concatenate([np.zeros(0, np.int32), *ids]),
        lengths=np.array([len(x) for x in ids], np.int32),
        prompt_lengths=np.array([x.prompt_length for x in rows.values()], np.int32),
    )


def load(path: pathlib.Path, made_from: str) -> Tokens:
    """What `save` wrote.

    Raises:
      ValueError: it is of another tokenizer, or by other conventions.
    """
    with np.load(path) as found:
        arrays = dict(found)
    texts = json.loads(arrays["texts"].tobytes())
    if texts["made_from"] != made_from:
        raise ValueError(
            f"{path} was made with another tokenizer or by other conventions; prepare "
            "it again with the model and the options of this run."
        )
    ids = np.split(arrays["ids"], np.cumsum(arrays["lengths"])[:-1])
    count = len(texts["rows"])
    made = zip(ids, arrays["prompt_lengths"].tolist(), strict=False)
    rows = zip(map(tuple, texts["rows"]), (_row(*x) for x in made), strict=True)
    return Tokens(dict(rows), dict(zip(texts["prompts"], ids[count:], strict=True)))


def _row(ids: np.ndarray, prompt_length: int) -> Encoded:
    labels = ids.copy()
    labels[:prompt_length] = IGNORE
    return Encoded(ids, labels, prompt_length)
