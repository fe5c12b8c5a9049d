"""A language model of characters, whose parameters are what it says."""

import numpy as np

from ofmu_jax.data.language.padding import IGNORE, Encoded

END = 0


def ids_of(text):
    return np.array([ord(x) for x in text], np.int32)


class Scripted:
    """``params(text so far, seed, least_likely)`` is what it goes on with."""

    def tokenizer(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": ids_of(text).tolist()}

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
