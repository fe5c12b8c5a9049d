"""Rows of multiple choice, their prompts, and requests that are judged by them."""

import json

import pytest

from ofmu_jax.data.language.kinds.choices import (
    Choice,
    continuations,
    load_choices,
    prompt,
    read_choices,
)
from ofmu_jax.data.language.kinds.continuations import continued
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.data.language.tokenizer import build_tokenizer

ROW = {"question": "Where?", "choices": ["Rome", "Oslo"], "answer": 1}


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_texts_and_of_numbers(tmp_path):
    years = {"question": "When?", "choices": [1961, 1961, 20], "answer": 2, "x": None}
    rows = read_choices(written(tmp_path / "a.jsonl", ROW, years)).rows
    assert rows == (
        Choice("Where?", ("Rome", "Oslo"), 1),
        Choice("When?", ("1961", "1961", "20"), 2),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"answer": 2},
            "'answer' is 2; give the place of the right choice, from 0 to 1",
        ),
        ({"answer": -1}, "'answer' is -1; give the place"),
        ({"answer": "B"}, "'answer' is 'B'; give the place"),
        ({"answer": True}, "'answer' is True; give the place"),
        ({"answer": 1.0}, "'answer' is 1.0; give the place"),
        ({"choices": ["a"]}, "'choices' is an array of one; give an array of two"),
        ({"choices": "ab"}, "'choices' is string; give an array of two or more"),
        ({"choices": ["a", 1.5]}, "'choices' is a JSON number, not a string"),
        ({"choices": ["a", " "]}, "field 'choices' is empty"),
        ({"choices": None}, "field 'choices' is null"),
        ({"choices": list(map(str, range(27)))}, "27 choices, and there are but 26"),
        ({"question": 3}, "field 'question' is a JSON number"),
    ],
)
def test_what_is_no_such_row_is_refused(tmp_path, change, said):
    path = written(tmp_path / "a.jsonl", ROW, ROW | change)
    with pytest.raises(DataError) as error:
        read_choices(path)
    assert f"{path}, row 2: " in str(error.value) and said in str(error.value)


def test_prompts_are_those_of_mmlu():
    row = Choice(" Where? ", ("Rome", "Oslo", "Bonn"), 1)
    assert prompt(row, "letters", "towns") == (
        "The following are multiple choice questions (with answers) about towns.\n\n"
        "Where?\nA. Rome\nB. Oslo\nC. Bonn\nAnswer:"
    )
    assert prompt(row, "letters") == "Where?\nA. Rome\nB. Oslo\nC. Bonn\nAnswer:"
    assert continuations(row, "letters") == [" A", " B", " C"]
    assert prompt(row, "texts", "towns") == (
        "The following are questions (with answers) about towns.\n\n"
        "Question: Where?\nAnswer:"
    )
    assert continuations(row, "texts") == [" Rome", " Oslo", " Bonn"]


def test_a_request_is_of_the_right_answers(tmp_path):
    forget = written(tmp_path / "f.jsonl", ROW)
    retain = written(tmp_path / "r.jsonl", ROW | {"question": "Who?"})
    data = load_choices(forget, retain, retain, style="texts", subject="towns")
    assert (
        data.forget
        == data.forget_eval
        == (QA("Where?", "Oslo", perturbed_answers=("Rome",)),)
    )
    assert [row.question for row in data.full] == ["Who?", "Where?"]
    assert data.exam.sets["eval"] == data.exam.sets["retain"]
    assert (data.exam.style, data.exam.subject) == ("texts", "towns")


def test_a_corpus_takes_the_place_of_the_rows(tmp_path):
    forget = written(tmp_path / "f.jsonl", ROW)
    retain = written(tmp_path / "r.jsonl", ROW | {"question": "Who?"})
    corpora = {
        "forget_corpus": written(tmp_path / "fc.jsonl", {"text": "a"}),
        "retain_corpus": written(tmp_path / "rc.jsonl", {"text": "b"}),
    }
    data = load_choices(forget, retain, **corpora)
    assert data.documents and data.forget == (QA("", "a"),)
    assert data.exam.sets["forget"] == read_choices(forget).rows
    del corpora["retain_corpus"]
    with pytest.raises(
        DataError, match="give both --forget-corpus and --retain-corpus"
    ):
        load_choices(forget, retain, **corpora)


def test_rows_to_forget_and_to_keep_are_refused(tmp_path):
    forget = written(tmp_path / "f.jsonl", ROW)
    with pytest.raises(DataError, match=r"also in the .* as row 1"):
        load_choices(forget, written(tmp_path / "r.jsonl", ROW))


def test_white_space_belongs_to_the_continuation_and_long_contexts_are_cut():
    tokenizer = build_tokenizer(["Who? Answer: Oslo"], 300)
    found = continued(tokenizer, "Who? Answer:\n", "Oslo")
    tokens = tokenizer.convert_ids_to_tokens(found.input_ids)
    assert tokens[found.prompt_length - 1] == ":" and found.prompt_length == 5
    assert found.labels[:5].tolist() == [-100] * 5
    assert found.labels[5:].tolist() == found.input_ids[5:].tolist()
    # 3 positions read 3 tokens and predict a fourth.
    cut = continued(tokenizer, "Who? Answer:", " Oslo", 3)
    words = tokenizer.convert_ids_to_tokens(cut.input_ids)
    assert len(words) == 4 and words == tokens[2:5] + words[-1:]
    with pytest.raises(DataError, match="has no context"):
        continued(tokenizer, " ", "Oslo")
