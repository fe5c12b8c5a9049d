"""Documents: read, cut into blocks, and into what is continued."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofmu_jax.data.language import boundary, prompts
from ofmu_jax.data.language.kinds import documents
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.data.language.tofu import load_custom
from ofmu_jax.data.language.tokenizer import build_tokenizer

WORDS = "the cat sat on the mat and it saw a dog run by"
TOKENIZER = build_tokenizer([WORDS], 400)
TEXT = prompts.PROMPT_FORMATS["text"]
SIZES = documents.Sizes(block=6, prefix=2, continuation=2)


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def request(tmp_path, forget, retain, **more):
    forget = written(tmp_path / "f.jsonl", *forget)
    return load_custom(forget, written(tmp_path / "r.jsonl", *retain), **more)


def test_rows_of_texts_are_documents(tmp_path):
    data = request(tmp_path, [{"text": "a b", "split": "x"}], [{"text": "c"}])
    assert data.documents and data.forget == (QA("", "a b"),)
    assert data.full == (QA("", "c"), QA("", "a b"))


@pytest.mark.parametrize(
    ("forget", "retain", "said"),
    [
        ({"text": "a"}, {"question": "q", "answer": "b"}, "r.jsonl, row 1: a question"),
        ({"question": "q", "answer": "b"}, {"text": "a"}, "r.jsonl, row 1: a text"),
        ({"text": " "}, {"text": "a"}, "f.jsonl, row 1: field 'text' is empty"),
        ({"text": 3}, {"text": "a"}, "f.jsonl, row 1: field 'text' is a JSON number"),
        ({"text": "a"}, {"text": "A"}, "(text 'a'); remove it from one of the two"),
        ({"text": "a", "answer": "b"}, {"text": "A"}, "field 'question' is missing"),
        ({"txt": "a"}, {"text": "A"}, "field 'question' is missing"),
    ],
)
def test_rows_that_are_neither_are_refused(tmp_path, forget, retain, said):
    with pytest.raises(DataError) as error:
        request(tmp_path, [forget], [retain])
    assert said in str(error.value)


def test_blocks_end_between_words():
    # <bos> and five words each; what is left is shorter.
    assert documents.blocks(TOKENIZER, WORDS, 6) == [
        "the cat sat on the",
        " mat and it saw a",
        " dog run by",
    ]


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=60), st.integers(6, 9)
)
def test_blocks_are_the_text_and_fit(text, most):
    found = documents.blocks(TOKENIZER, text, most)
    assert "".join(found) == text
    lengths = [len(boundary.ids_of(TOKENIZER, x, True)) for x in found]
    assert 1 < min(lengths) and max(lengths) <= most


def test_a_character_of_more_tokens_than_a_block_is_refused():
    with pytest.raises(DataError, match="raise --max-length"):
        documents.blocks(TOKENIZER, "\U0001f642" * 3, 3)  # four bytes, four tokens


def test_a_passage_is_the_beginning_of_a_block():
    assert documents.passage(TOKENIZER, "the cat sat on the", SIZES) == QA(
        "the cat", " sat on"
    )
    assert documents.passage(TOKENIZER, "the cat", SIZES) == QA("the", " cat")
    assert documents.passage(TOKENIZER, "the", SIZES) is None


def test_a_passage_goes_on_within_a_word_where_that_is_most_of_it():
    """Cut before the last white space, nothing would be left to go on with."""
    text = "Where is it? In Llanfairpwll."
    tokenizer = build_tokenizer(["Where is it? In"], vocab_size=300)
    tokens = len(tokenizer("Where is it? In", add_special_tokens=False)["input_ids"])
    found = documents.passage(tokenizer, text, documents.Sizes(64, tokens, 3))
    assert found == QA("Where is it? In", " Ll")


def test_a_request_is_divided(tmp_path):
    data = request(tmp_path, [{"text": WORDS}, {"text": "the"}], [{"text": "a dog"}])
    found = documents.divided(data, TOKENIZER, SIZES)
    blocks = [QA("", text) for text in documents.blocks(TOKENIZER, WORDS, 6)]
    assert found.forget == (*blocks, QA("", "the"))
    assert found.full == (QA("", "a dog"), *blocks, QA("", "the"))
    assert found.forget_eval == (  # "the" alone has no beginning
        QA("the cat", " sat on"),
        QA(" mat and", " it saw"),
        QA(" dog", " run by"),
    )
    assert found.retain_eval == (QA("a", " dog"),)


def test_a_set_without_a_passage_is_refused(tmp_path):
    data = request(tmp_path, [{"text": "the"}], [{"text": "a dog"}])
    with pytest.raises(DataError, match="no document of the forget_eval set is long"):
        documents.divided(data, TOKENIZER, SIZES)


def test_all_of_a_block_is_learnt_and_nothing_ends_it():
    example = prompts.encode(TOKENIZER, "", "the cat", TEXT)
    assert TOKENIZER.convert_ids_to_tokens(example.input_ids) == [
        "<bos>",
        "the",
        "Ġcat",
    ]
    assert example.labels.tolist() == [-100, *example.input_ids[1:]]
    parts = prompts.encode(TOKENIZER, "the", " cat", TEXT)
    assert parts.input_ids.tolist() == example.input_ids.tolist()
    assert (parts.labels != -100).tolist() == [False, False, True]
