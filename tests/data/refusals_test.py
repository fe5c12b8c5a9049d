"""Refusals from files of text and of JSON."""

import gzip

import pytest

from ofmu_jax.data.language.records import DataError
from ofmu_jax.data.language.refusals import read_refusals


@pytest.mark.parametrize(
    "text",
    [
        "I can't say.\n\n  No idea. \r\n",
        '"I can\'t say."\n"No idea."',
        '{"refusal": "I can\'t say."}\n\n{"refusal": "No idea."}\n',
        '{"id": 1, "text": "I can\'t say."}\n{"id": 2, "text": "No idea."}',
        '["I can\'t say.", "No idea."]',
        '[\n  {"text": "I can\'t say."},\n  {"text": "No idea."}\n]\n',
        '\ufeff{"refusal": "I can\'t say."}\n"No idea."',
    ],
)
def test_text_and_json(tmp_path, text):
    path = tmp_path / "idontknow.jsonl"
    path.write_text(text, encoding="utf-8")
    assert read_refusals(path) == ("I can't say.", "No idea.")


def test_a_text_in_quotation_marks_is_a_text(tmp_path):
    path = tmp_path / "refusals.txt"
    path.write_text('"No", she said.\n""\n')
    assert read_refusals(path) == ('"No", she said.', '""')


def test_a_text_in_brackets_is_a_text(tmp_path):
    path = tmp_path / "refusals.txt"
    path.write_text("[withheld]\n[I cannot say.]\n")
    assert read_refusals(path) == ("[withheld]", "[I cannot say.]")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "holds no refusal; write one per line"),
        (b"[]", "holds no refusal"),
        (b'{"a": "x", "b": "y"}', r"row 1: an object with 2 text fields.*'a', 'b'"),
        (b'{"a": "x"}\n{"a": 1}', "row 2: an object with 0 text fields"),
        (b'{"a": "x"}\nNo idea.', "row 2: no JSON, where other lines are"),
        (b'{"a": "x"}\n\n{"a": ', "row 3: no JSON"),
        (b'"No.",\n"No idea."', "ends like an entry of a JSON array; put all in brack"),
        (b'[\n"No.",\n"No idea.",\n]', "row 1: no JSON"),
        (b'{"a": " "}', "row 1: holds no text"),
        (b'["x", null]', "row 2: holds no text"),
        (b'{"a": "\\ud800"}', "row 1: holds half of a surrogate pair"),
        (b"No idea.\n\xe9", r"row 2: not UTF-8 \(byte 0xe9\)"),
    ],
)
def test_refusals_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "refusals"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_refusals(path)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="no such file in the folder"):
        read_refusals(tmp_path / "nowhere.txt")


def test_a_packed_file_is_read(tmp_path):
    path = tmp_path / "refusals.txt.gz"
    path.write_bytes(gzip.compress(b"No.\nNo idea."))
    assert [*read_refusals(path)] == ["No.", "No idea."]
