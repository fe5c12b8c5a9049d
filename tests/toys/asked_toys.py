"""A language model of characters, whose parameters are what it says."""

import jax
import numpy as np
from llamas import init_params

from ofmu_jax.data.language.padding import IGNORE, Encoded
from ofmu_jax.evals.language.scores import score_batches
from ofmu_jax.models.llama.model import Llama, LlamaConfig

END = 0


def ids_of(text):
    return np.array([ord(x) for x in text], np.int32)


class Characters:
    """A tokenizer."""

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": ids_of(text).tolist()}

    def decode(self, ids, skip_special_tokens):
        return "".join(chr(x) for x in ids if x != END or not skip_special_tokens)


class Scripted:
    """``params(text so far, seed, least_likely)`` is what it goes on with."""

    tokenizer = Characters()
    ended = True

    def prompt(self, question):
        return ids_of(question)

    def encode(self, rows):
        found = []
        for row in rows:
            ids = np.array([*ids_of(row.question + row.answer), END], np.int32)
            labels = ids.copy()
            labels[: len(row.question)] = IGNORE
            found.append(Encoded(ids, labels, len(row.question)))
        return found

    def decode(self, rows):
        return ["".join(map(chr, row)).strip() for row in rows]

    def generate(self, params, questions, temperature=0.0, seed=0):
        return [
            params(text, seed if temperature else None, False) for text in questions
        ]

    def continued(
        self, params, beginnings, temperature=0.0, seed=0, least_likely=False
    ):
        begun = ["".join(map(chr, ids)) for ids in beginnings]
        return [
            params(text, seed if temperature else None, least_likely) for text in begun
        ]


class Network(Scripted):
    """A tiny Llama of the first 128 characters."""

    batch_size = 4
    config = LlamaConfig(128, 16, 24, 3, 2, 1, 8, initializer_range=0.3)

    def __init__(self):
        self.padding = {"pad_id": END, "interior_eot": "correct"}
        self.model = Llama(self.config)

    def apply_fn(self, params, ids, mask):
        return self.model.apply({"params": params}, ids, mask)

    def made(self, seed):
        return init_params(self.config, jax.random.key(seed))

    def score_encoded(self, params, examples):
        return score_batches(self.apply_fn, params, examples, batch_size=4)
