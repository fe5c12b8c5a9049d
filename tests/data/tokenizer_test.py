"""The tokenizer that is built on the spot: lossless, small, the same everywhere."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.language.tokenizer import SPECIAL, build_tokenizer

TEXTS = ["Ann writes poems. Ann writes.", "Who is Ann?\nA poet, née 1961."]
SMALLEST = len(SPECIAL) + 256
TOKENIZER = build_tokenizer(TEXTS)


def pieces(text, tokenizer=TOKENIZER):
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def assert_lossless(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(text):
    assert_lossless(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " Ann  writes . ,",
        "it 's n't ' s",
        "\r\n\t\u2028\x00\x85\ufeff",
        "日本語 🤷🏽‍♀️ e\u0301 \ufffd",
        "a <eos> b<pad><bos>",
        *TEXTS,
    ],
)
def test_awkward_text_comes_back(text):
    assert_lossless(text)


def test_words_are_tokens_and_others_are_bytes():
    assert pieces("Ann writes") == ["<bos>", "Ann", "Ġwrites"]
    assert pieces("Ann reads") == ["<bos>", "Ann", "Ġ", "r", "e", "a", "d", "s"]
    assert pieces("é") == ["<bos>", "Ã", "©"]
    # Case and the space before a word matter.
    assert pieces("writes") == ["<bos>", *"writes"]


def test_the_most_frequent_words_are_kept():
    # " Ann" and " writes" come twice, all others once; equals in order of letters.
    for size in range(4):
        words = ["ĠAnn", "Ġwrites", "Ann"][:size]
        small = build_tokenizer(TEXTS, SMALLEST + size)
        assert len(small) == SMALLEST + size
        assert small.convert_ids_to_tokens(range(SMALLEST, SMALLEST + size)) == words


def test_vocabulary_is_no_larger_than_the_texts_need():
    # Ann, Ġwrites, Ġpoems, Who, Ġis, ĠAnn, Ġpoet, Ġnée, Ġ1961; marks are bytes.
    assert len(TOKENIZER) == len(TOKENIZER.get_vocab()) == SMALLEST + 9
    assert len(build_tokenizer([])) == SMALLEST


def test_too_small_a_vocabulary():
    with pytest.raises(DataError, match=r"258 tokens .* is too small; .* need 259"):
        build_tokenizer(TEXTS, SMALLEST - 1)


def test_special_tokens_are_the_first_ids():
    ids = [TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id]
    assert ids == [0, 1, 2]
    assert TOKENIZER("Ann")["input_ids"][:1] == [1]
    assert 2 not in TOKENIZER("Ann")["input_ids"]
    assert TOKENIZER.decode([1, 2, 0], skip_special_tokens=True) == ""


def test_the_same_in_every_process():
    """Whatever the seed of Python's hashes, which orders its sets."""
    code = (
        "import json, sys\n"
        "from ofmu_jax.data.language.tokenizer import build_tokenizer;"
        "print(build_tokenizer(json.load(sys.stdin)).backend_tokenizer.to_str())"
    )
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(TEXTS),
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        here = json.loads(TOKENIZER.backend_tokenizer.to_str())
        assert json.loads(result.stdout) == here


def test_saved_and_read_again(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.chat_template == TOKENIZER.chat_template
    for text in [*TEXTS, " a  b , 日本"]:
        ids = again(text)["input_ids"]
        assert ids == TOKENIZER(text)["input_ids"]
        assert again.decode(ids, skip_special_tokens=True) == text
