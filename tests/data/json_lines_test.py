"""Reading rows, and every way a file can be wrong."""

import bz2
import gzip
import json
import lzma
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.data.language.rows.read import read_rows

GOOD = b'{"question": "Who?", "answer": "Ann."}'
EVERY_TEST = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read(tmp_path, content: bytes, **options):
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    return list(read_rows(path, **options).rows)


def refusal(tmp_path, content: bytes, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, **options)
    message = str(caught.value)
    assert "rows.json" in message
    return message


def test_all_fields(tmp_path):
    row = {
        "question": "Who?",
        "answer": "Ann.",
        "paraphrased_question": "What name?",
        "paraphrased_answer": "It is Ann.",
        "perturbed_answer": ["Bob.", "Cy."],
        "unrelated": {"nested": [1, None]},
    }
    rows = read(tmp_path, json.dumps(row).encode())
    assert rows == [QA("Who?", "Ann.", "What name?", "It is Ann.", ("Bob.", "Cy."))]


def test_one_perturbed_answer_may_be_a_string(tmp_path):
    content = b'{"question": "Who?", "answer": "Ann.", "perturbed_answer": "Bob."}'
    assert read(tmp_path, content)[0].perturbed_answers == ("Bob.",)


def test_absent_and_null_optional_fields_are_the_same(tmp_path):
    content = b'{"question": "Who?", "answer": "Ann.", "paraphrased_answer": null}'
    assert read(tmp_path, content) == [QA("Who?", "Ann.")]


def test_columns_of_your_own(tmp_path):
    keys = {"columns": (("question", "Rätsel"), ("answer", "x"))}
    content = '{"Rätsel": "Who?", "x": "Ann.", "question": "no"}'.encode()
    assert read(tmp_path, content, **keys) == [QA("Who?", "Ann.")]
    message = refusal(tmp_path, b'{"q": "Who?", "y": "x"}', **keys)
    assert "row 1: field 'answer' is missing" in message
    assert "say which one it is: --columns answer=NAME" in message


@pytest.mark.parametrize(
    "content",
    [
        GOOD + b"\n" + GOOD,
        GOOD + b"\n" + GOOD + b"\n\n \n",  # blank lines at the end are no rows
        GOOD + b"\r\n" + GOOD + b"\r\n",
        b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD,
        b"[" + GOOD + b", " + GOOD + b"]",
        b"\n [" + GOOD + b",\n" + GOOD + b"\n]\n",
    ],
    ids="plain trailing-blank crlf bom array pretty-array".split(),
)
def test_two_equal_rows_in_every_dialect(tmp_path, content):
    assert read(tmp_path, content) == [QA("Who?", "Ann.")] * 2


def test_line_separators_of_unicode_do_not_end_a_row(tmp_path):
    text = "one\u2028two\u2029three\x85four"
    content = json.dumps({"question": text, "answer": "A."}, ensure_ascii=False)
    assert read(tmp_path, content.encode())[0].question == text


def test_huge_numbers_are_ignored_where_they_are_not_read(tmp_path):
    digits = b"9" * 10_000  # more than int() accepts
    row = b'{"question": "Who?", "answer": "Ann.", "id": ' + digits + b"}"
    assert read(tmp_path, row) == [QA("Who?", "Ann.")]
    row = b'{"question": ' + digits + b', "answer": "Ann."}'
    assert "'question' is a JSON number" in refusal(tmp_path, row)


# What is in the second row → what the message says about it.
BAD_ROWS = {
    "broken": (b'{"question": "Who?", "answer"', "broken JSON", "column 30"),
    "two-lines": (b'{"question": "Who?",\n"answer": "A."}', "one whole JSON object"),
    "two-objects": (GOOD + GOOD, "Extra data"),
    "not-an-object": (b'"Who?"', "a JSON string", '{"question": ...'),
    "array-row": (b'["Who?", "Ann."]', "a JSON array where an object is needed"),
    "no-answer": (b'{"question": "Who?", "Ans": "A."}', "'answer' is missing"),
    "fields-found": (b'{"question": "Who?", "b": 1}', "'question', 'b'", "spelling"),
    "no-field": (b"{}", "fields found: none"),
    "null": (b'{"question": null, "answer": "A."}', "'question' is null", "fill it in"),
    "number": (b'{"question": 3, "answer": "A."}', "a JSON number, not a string"),
    "nan": (b'{"question": NaN, "answer": "A."}', "'question' is NaN", "no JSON"),
    "nan-optional": (
        b'{"question": "Who?", "answer": "A.", "paraphrased_answer": NaN}',
        "'paraphrased_answer' is NaN",
        "or null where a field may be left out",
    ),
    "true": (b'{"question": true, "answer": "A."}', "a JSON true, not a string"),
    "list": (b'{"question": ["Who?"], "answer": "A."}', "a JSON array", "quotes"),
    "object": (b'{"question": {"a": 1}, "answer": "A."}', "a JSON object"),
    "empty": (b'{"question": "", "answer": "A."}', "'question' is empty"),
    "spaces": (b'{"question": "Who?", "answer": " \\t\\n"}', "'answer' is empty"),
    "invisible": (
        b'{"question": "Who?", "answer": "\xe2\x80\x8b \\ufeff"}',
        "'answer' is empty",
    ),
    "twice": (
        b'{"question": "Who?", "answer": "Ann.", "answer": "Bob."}',
        "field 'answer' is there more than once; write a row for each",
    ),
    "surrogate": (b'{"question": "Who\\ud800?", "answer": "A."}', "surrogate"),
    "not-utf8": (b'{"question": "caf\xe9", "answer": "A."}', "not UTF-8", "0xe9"),
    "utf16": (GOOD.decode().encode("utf-16"), "not UTF-8", "0xff"),
    "nul": (b"\0", "broken JSON"),
    "control": (b'{"question": "a\tb", "answer": "A."}', "Invalid control character"),
    "blank": (b"  ", "blank line; remove it"),
    "deep-object": (b'{"a":' * 100_000, "nested too deeply"),
    "perturbed-number": (
        b'{"question": "Who?", "answer": "A.", "perturbed_answer": 1}',
        "'perturbed_answer' is a JSON number; give a string or a list",
    ),
    "perturbed-null": (
        b'{"question": "Who?", "answer": "A.", "perturbed_answer": ["B.", null]}',
        "'perturbed_answer' is a JSON null",
    ),
    "perturbed-empty": (
        b'{"question": "Who?", "answer": "A.", "perturbed_answer": ["B.", ""]}',
        "'perturbed_answer' is empty",
    ),
    "paraphrase": (
        b'{"question": "Who?", "answer": "A.", "paraphrased_answer": ["B."]}',
        "'paraphrased_answer' is a JSON array",
    ),
}


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row_is_named(tmp_path, name, bom):
    row, *expected = BAD_ROWS[name]
    message = refusal(tmp_path, bom + GOOD + b"\n" + row + b"\n" + GOOD)
    assert "rows.json, row 2: " in message
    for part in expected:
        assert part in message


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path, content):
    assert "the file is empty" in refusal(tmp_path, content)


def test_bad_array(tmp_path):
    assert "row 2: a JSON number" in refusal(tmp_path, b"[" + GOOD + b", 3]")
    message = refusal(tmp_path, b"[" + GOOD + b",\n" + GOOD)
    assert "broken JSON" in message
    assert "at line 2, column" in message
    assert "nested too deeply" in refusal(tmp_path, b"[" * 100_000)


def test_required_fields(tmp_path):
    required = ("question", "answer", "perturbed_answer")
    row = b'{"question": "Who?", "answer": "A.", "perturbed_answer": []}'
    message = refusal(tmp_path, GOOD, required=required)
    assert "field 'perturbed_answer' is missing" in message
    message = refusal(tmp_path, row, required=required)
    assert "field 'perturbed_answer' is []" in message
    assert read(tmp_path, row) == [QA("Who?", "A.")]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json: no such file in the folder"):
        read_rows(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match="not a file name"):
        read_rows("a\0b")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["question", "answer", "perturbed_answer", "x"]), inner
        )
    ),
    max_leaves=8,
)


def rows_or_refusal(tmp_path, content: bytes) -> None:
    """The promise: rows that can be used, or a `DataError` and nothing else."""
    try:
        rows = read(tmp_path, content)
    except DataError:
        return
    assert rows
    for row in rows:
        assert row.question.strip() and row.answer.strip()
        texts = [row.question, row.answer, *row.perturbed_answers]
        "".join(texts).encode("utf-8")


@EVERY_TEST
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path, content):
    rows_or_refusal(tmp_path, content)


@EVERY_TEST
@given(st.lists(JSON, max_size=3), st.sampled_from(["\n", "\r\n", ",", ""]))
def test_any_json(tmp_path, values, separator):
    rows_or_refusal(tmp_path, separator.join(map(json.dumps, values)).encode())


@EVERY_TEST
@given(st.integers(0, len(GOOD)), st.binary(max_size=3))
def test_any_damage_to_a_good_file(tmp_path, at, damage):
    content = GOOD + b"\n" + GOOD
    rows_or_refusal(tmp_path, content[:at] + damage + content[at + len(damage) :])


@pytest.mark.parametrize(
    "content, kind, remedy",
    [
        (gzip.compress(GOOD, mtime=0)[:-9], "a gzip archive", "cannot be unpacked"),
        (bz2.compress(GOOD), "a bzip2 archive", "bunzip2"),
        (lzma.compress(GOOD), "an xz archive", "unxz"),
        (b"PAR1\x15\x04\x15\xff", "a Parquet table", "write it again"),
        (b"ARROW1\x00\x00\xff", "an Arrow table", "read_feather("),
        (b"\xff\xff\xff\xff\x10\x01", "an Arrow stream", "Dataset.to_json("),
        (b"PK\x03\x04\x14\xff", "a ZIP archive or an Excel sheet", "unpack"),
        (pickle.dumps([1]), "a Python pickle", "as JSON lines"),
        (GOOD.decode().encode("utf-16"), "text in UTF-16", "UTF-8"),
        (GOOD.decode().encode("utf-16-le"), "text in UTF-16 or UTF-32", "UTF-8"),
        (GOOD.decode().encode("utf-32-be"), "text in UTF-16 or UTF-32", "UTF-8"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "a Git LFS pointer",
            "lfs pull",
        ),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, content, kind, remedy):
    message = refusal(tmp_path, content)
    assert f"this is {kind}" in message or kind in message
    assert remedy in message
    assert "not UTF-8 (" not in message and "\n" not in message
