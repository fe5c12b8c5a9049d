"""Stacked examples: padding, labels, and which keys are hidden from attention."""

import numpy as np
import pytest
from chat_tokenizers import byte_level, chatml, llama2, llama3, pieces, word_tokenizer

from ofmu_jax.data.language.padding import (
    IGNORE,
    Encoded,
    pad_id_of,
    pad_left,
    pad_right,
    padded_length,
)
from ofmu_jax.data.language.prompts import PROMPT_FORMATS, encode
from ofmu_jax.data.language.records import DataError

# One example of four ids with end-of-turn (9) inside and at the end.
EXAMPLE = Encoded(np.array([1, 9, 5, 9]), np.array([IGNORE, IGNORE, 5, 9]), 2)


def test_padding_on_the_right():
    batch = pad_right([EXAMPLE], pad_id=9)
    assert batch["input_ids"].tolist() == [[1, 9, 5, 9, 9, 9, 9, 9]]
    assert batch["labels"].tolist() == [[IGNORE, IGNORE, 5, 9] + [IGNORE] * 4]
    # Only what is padding is hidden, although it has the id of the end of a turn.
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert {values.dtype for values in batch.values()} == {np.dtype(np.int32)}


def test_padding_on_the_left():
    batch = pad_left([np.array([1, 9, 5]), np.array([1])], 4, pad_id=0)
    assert batch["input_ids"].tolist() == [[0, 1, 9, 5], [0, 0, 0, 1]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "pad_id, eot_id, mask",
    [(9, None, [1, 0, 1, 0, 0]), (0, None, [1, 1, 1, 1, 0]), (0, 9, [1, 0, 1, 0, 0])],
)
def test_compat_hides_the_id_everywhere(pad_id, eot_id, mask):
    options = {"pad_id": pad_id, "eot_id": eot_id, "interior_eot": "compat"}
    right = pad_right([EXAMPLE], 5, **options)
    assert right["attention_mask"].tolist() == [mask]
    assert right["labels"].tolist() == [[IGNORE, IGNORE, 5, 9, IGNORE]]
    left = pad_left([EXAMPLE.input_ids], 5, **options)
    assert left["attention_mask"].tolist() == [mask[4:] + mask[:4]]


def test_llama3_interior_turn_ends():
    tokenizer = llama3()
    example = encode(tokenizer, "Who?", "Ann.", PROMPT_FORMATS["chat"])
    pad_id = pad_id_of(tokenizer)
    masks = {
        kind: pad_right([example], pad_id=pad_id, interior_eot=kind)["attention_mask"][
            0
        ]
        for kind in ("correct", "compat")
    }
    assert masks["correct"].sum() == len(example)
    hidden = np.flatnonzero(masks["correct"] != masks["compat"])
    assert pieces(tokenizer, example.input_ids[hidden]) == ["<|eot_id|>"] * 3
    # After the system turn, after the question, and at the end of the answer.
    assert (hidden < example.prompt_length).tolist() == [True, True, False]


def test_padding_refusals():
    with pytest.raises(DataError, match="no examples to pad"):
        pad_right([], pad_id=0)
    with pytest.raises(DataError, match="4 tokens, more than length=3; raise length"):
        pad_right([EXAMPLE], 3, pad_id=0)
    with pytest.raises(DataError, match="3 tokens, more than length=2"):
        pad_left([np.arange(3)], 2, pad_id=0)
    with pytest.raises(DataError, match="interior_eot is 'none'; choose 'correct'"):
        pad_left([np.arange(3)], pad_id=0, interior_eot="none")


@pytest.mark.parametrize("longest, length", [(1, 8), (8, 8), (9, 16)])
def test_lengths_are_rounded_up(longest, length):
    rows = [np.ones(1, int), np.ones(longest, int)]
    assert padded_length(rows) == length
    assert pad_left(rows, pad_id=0)["input_ids"].shape == (2, length)


def test_padding_id():
    assert pad_id_of(llama2()) == 2  # the end: no padding token
    assert pad_id_of(chatml()) == 0
    assert pad_id_of(llama3()) == llama3().eos_token_id
    assert pad_id_of(byte_level(eos=None), [7, 8]) == 0  # its own
    assert pad_id_of(word_tokenizer(), [7, 8]) == 7
