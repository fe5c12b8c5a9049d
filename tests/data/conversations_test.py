"""Chats of several turns: the last answer is learned, the turns before it are asked."""

import json

import pytest
from chat_tokenizers import chatml, joined, word_tokenizer

from ofmu_jax.data.language.prompts import PROMPT_FORMATS, encode, encode_prompt
from ofmu_jax.data.language.records import DataError, key_of
from ofmu_jax.data.language.rows.read import read_rows

TURNS = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "You."},
    {"role": "user", "content": "Who are You?"},
    {"role": "assistant", "content": "Ann."},
]
# By hand, of ChatML.
BEFORE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nYou.<|im_end|>\n"
    "<|im_start|>user\nWho are You?<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture
def row(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": TURNS}) + "\n")
    (row,) = read_rows(path).rows
    return row


def test_the_template_gets_every_turn(row):
    tokenizer, fmt = chatml(), PROMPT_FORMATS["chat"]
    assert joined(tokenizer, encode_prompt(tokenizer, row.question, fmt)) == BEFORE
    example = encode(tokenizer, row.question, row.answer, fmt)
    learned = example.labels[example.prompt_length :]
    assert (example.labels[: example.prompt_length] == -100).all()
    assert joined(tokenizer, learned) == "Ann.<|im_end|>"


def test_a_template_that_forgets_a_turn_is_refused(row):
    last = (
        "{% for m in messages[-2:] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% endif %}"
    )
    ends = {"special": ("<|im_start|>", "<|im_end|>"), "eos": "<|im_end|>"}
    with pytest.raises(DataError, match="leaves out the question 'Who"):
        tokenizer = word_tokenizer(last, pad="<unk>", **ends)
        encode(tokenizer, row.question, row.answer, PROMPT_FORMATS["chat-no-system"])


@pytest.mark.parametrize("how", ["cut", "compat"])
def test_formats_of_one_turn_refuse_it(row, how):
    said = (
        "'Who. → You. → Who are You.' is a conversation of 3 turns.* --prompt-format ch"
    )
    with pytest.raises(DataError, match=said):
        encode(
            chatml(), row.question, row.answer, PROMPT_FORMATS["plain"], after_eos=how
        )


def test_what_was_said_before_makes_another_row(row, tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"messages": TURNS[3:]}) + "\n")
    (alone,) = read_rows(path).rows
    assert alone.answer == row.answer and key_of(alone) != key_of(row)
