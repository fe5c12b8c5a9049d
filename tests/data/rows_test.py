"""Rows as people have them: one content, whatever the format."""

import csv
import functools
import gzip
import io
import json
import pathlib

import pytest

from ofmu_jax.data.language.kinds.choices import Choice, read_choices
from ofmu_jax.data.language.records import QA, DataError
from ofmu_jax.data.language.rows import columns, hub
from ofmu_jax.data.language.rows.columns import CHATS, QUESTIONS, TEXTS
from ofmu_jax.data.language.rows.read import read_rows
from ofmu_jax.data.language.rows.source import check_asked
from ofmu_jax.data.language.tofu import load_custom

# What a cell of a table may hold: separators, quotes, line breaks, other scripts.
ROWS = (
    QA("Who, then?", 'Ann "Bo"; Cy.', perturbed_answers=("Bob, or\nCy.", "[withheld]")),
    QA("Where\nwas é born?", "東京", paraphrased_question="Birthplace?"),
)
FIELDS = (
    "question",
    "answer",
    "paraphrased_question",
    "paraphrased_answer",
    "perturbed_answer",
)
read = functools.partial(read_rows, forms=(QUESTIONS, CHATS, TEXTS), columns=())


def cells(row):
    wrong = list(row.perturbed_answers) or None
    paraphrases = row.paraphrased_question, row.paraphrased_answer
    return dict(
        zip(FIELDS, (row.question, row.answer, *paraphrases, wrong), strict=True)
    )


def separated(delimiter):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, FIELDS, delimiter=delimiter)
    writer.writeheader()
    for row in map(cells, ROWS):
        wrong = row["perturbed_answer"]
        as_cell = None if wrong is None else json.dumps(wrong, ensure_ascii=False)
        writer.writerow(row | {"perturbed_answer": as_cell})
    return file.getvalue().encode()


def as_lines():
    return "\n".join(json.dumps(cells(row)) for row in ROWS).encode()


def parquet():
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet")
    from pyarrow import parquet as writer

    sink = pyarrow.BufferOutputStream()
    writer.write_table(pyarrow.Table.from_pylist([*map(cells, ROWS)]), sink)
    return sink.getvalue().to_pybytes()


FORMATS = {
    "rows.jsonl": (as_lines, "JSON lines"),
    "rows.json": (lambda: json.dumps([*map(cells, ROWS)]).encode(), "JSON array"),
    "rows.csv": (lambda: separated(","), "CSV"),
    "german.csv": (lambda: b"\xef\xbb\xbf" + separated(";"), "CSV"),
    "rows.tsv": (lambda: separated("\t"), "TSV"),
    "rows.txt": (lambda: separated("\t"), "TSV"),  # by its header
    "rows.csv.gz": (lambda: gzip.compress(separated(",")), "CSV"),
    "rows.jsonl.gz": (lambda: gzip.compress(as_lines()), "JSON lines"),
    "rows.parquet": (parquet, "Parquet"),
    "wrong.csv": (as_lines, "JSON lines"),  # a wrong name is no reason
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_rows_in_every_format(tmp_path, name):
    content, kind = FORMATS[name]
    (tmp_path / name).write_bytes(content())
    rows, source = read(tmp_path / name)
    assert rows == ROWS
    assert (source.name, source.kind, source.rows) == (name, kind, 2)


def data_set(folder, rows, **splits):
    """A data set on disk; where there are splits, of several."""
    datasets = pytest.importorskip("datasets", reason="the extra datasets")
    made = datasets.Dataset.from_list(rows)
    if splits:
        others = {k: datasets.Dataset.from_list(of) for k, of in splits.items()}
        made = datasets.DatasetDict({"train": made, **others})
    made.save_to_disk(folder)
    return folder


def test_a_data_set_as_save_to_disk_writes_it(tmp_path):
    one = data_set(tmp_path / "one", [*map(cells, ROWS)])
    assert read(one).rows == read(f"hf:{one}").rows == ROWS
    assert read(one).source.kind == "Hugging Face data set"
    with pytest.raises(DataError, match=r"one split was saved there, and train is"):
        read(f"hf:{one}:train")
    rows = [cells(row) for row in ROWS]
    several = data_set(tmp_path / "several", rows[:1], test=rows[1:])
    assert read(f"hf:{several}:test").rows == ROWS[1:]
    with pytest.raises(DataError, match=r"has several splits; say which: train, test"):
        read(several)
    with pytest.raises(DataError, match=r"has no split dev; say which: train, test"):
        read(f"hf:{several}:dev")


def test_a_data_set_by_name_without_a_network(tmp_path, monkeypatch):
    """A folder is loaded as a repository of the hub is: configurations and splits."""
    datasets = pytest.importorskip("datasets", reason="the extra datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    train, test = (QA("Who?", "Ann."),), (QA("Where?", "Rome."), QA("When?", "Now."))
    for split, rows in (("train", train), ("test", test)):
        lines(
            folder / f"{split}.jsonl", *({"q": r.question, "a": r.answer} for r in rows)
        )
    assert read(f"hf:{folder}:train").rows == train
    assert read(f"hf:{folder}:default:test[:1]").rows == test[:1]
    assert hub.label(f"hf:{folder}:default:test") == "hf:name:default:test"
    with pytest.raises(DataError, match=r"has several splits; say which: train, test"):
        read(f"hf:{folder}")
    with pytest.raises(DataError, match=r"has no config x; say which: default"):
        read(f"hf:{folder}:x:test")
    with pytest.raises(DataError, match=r"hf:no/such-name: cannot be loaded .*network"):
        read("hf:no/such-name")
    for wrong in ("hf:", "hf:a:b:c:d", "hf:a::b"):
        with pytest.raises(DataError, match="names no data set; write hf:ORG/NAME"):
            read(wrong)


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match=r"need the library datasets; install it"):
        read("hf:org/name")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"needs pyarrow; install it"):
        read(tmp_path / "a.parquet")


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


USER = {"role": "user", "content": "Who?"}
SAYS = {"role": "assistant", "content": "Ann."}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "row, columns_read",
    [
        ({"prompt": "Who?", "completion": "Ann."}, "prompt completion"),
        ({"Q": "Who?", "A": "Ann.", "id": 3}, "Q A"),
        ({"Instruction": "Who?", "Response": "Ann."}, "Instruction Response"),
        ({"input": "Who?", "output": "Ann."}, "input output"),
        ({"instruction": "Who?", "input": "", "output": "Ann."}, None),
        ({"question": "Who?", "answer": "Ann.", "text": "Who? Ann."}, None),
        ({"messages": [USER, SAYS]}, "messages"),
        ({"prompt": "Who?", "messages": [USER, SAYS]}, "messages"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Who?"},
                    {"from": "gpt", "value": "Ann."},
                ]
            },
            "conversations",
        ),
        ({"prompt": [USER], "completion": [SAYS]}, "prompt completion"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
                    SAYS,
                ]
            },
            "messages",
        ),
    ],
)
def test_names_that_mean_the_same(tmp_path, row, columns_read):
    rows, source = read(lines(tmp_path / "a.jsonl", row))
    assert rows == (QA("Who?", "Ann."),)
    if columns_read is not None:
        assert " ".join(source.columns.values()) == columns_read


def test_an_instruction_and_what_it_is_about(tmp_path):
    row = {"instruction": "Name it.", "input": "A tower", "output": "Eiffel"}
    rows, source = read(lines(tmp_path / "a.jsonl", row))
    assert rows == (QA("Name it.\nA tower", "Eiffel"),)
    assert source.in_words() == (
        "a.jsonl (JSON lines, rows: 1): question is 'instruction', answer is 'output', "
        "context is 'input'"
    )


@pytest.mark.parametrize(
    "names, said",
    [
        ("title body", "fields found: 'title', 'body'"),
        (
            "title body",
            "Read are: question (prompt, instruction, input, query, q) with",
        ),
        ("title body", "; messages (conversations, conversation); text (document)."),
        ("question title", "'answer' is missing"),
        ("question prompt answer", "fields 'question', 'prompt' may all be"),
        ("question prompt answer", "--columns question=NAME"),
        ("q a answer", "fields 'a', 'answer' may all be"),
        ("q a answer", "--columns answer=NAME"),
        ("question answer messages", "'question', 'answer', 'messages' may all be"),
        ("prompt text", "'answer' is missing"),
    ],
)
def test_columns_that_are_unknown_or_ambiguous(tmp_path, names, said):
    with pytest.raises(DataError) as caught:
        read(lines(tmp_path / "a.jsonl", dict.fromkeys(names.split(), "x")))
    assert said in str(caught.value) and "a.jsonl, row 1: " in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / "a.csv").write_text(",".join(names.split()) + "\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv")
    assert said in str(caught.value)


def test_columns_that_are_named(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"question": "no", "Title": "Who?", "a": "Ann."})
    chosen = columns.asked(["question=Title"])
    rows, source = read(path, columns=chosen)
    assert rows == (QA("Who?", "Ann."),)
    assert source.unread == ("question",)
    check_asked(["question=Title"], [source])
    with pytest.raises(DataError, match=r"answer=Body: no file has that column; there"):
        check_asked(["answer=Body"], [source])
    for wrong in ("Title", "title=question", "question="):
        with pytest.raises(DataError, match=r"write FIELD=COLUMN.*fields are question"):
            columns.asked([wrong])
    with pytest.raises(DataError, match="names x twice"):
        columns.asked(["question=x", "answer=x"])


@pytest.mark.parametrize(
    "turns, said",
    [
        ([USER, SAYS, USER], "ends with a turn of user"),
        ([USER, USER, SAYS], "the turns user, user before the answer; it takes user"),
        ([SAYS, USER, SAYS], "the turns assistant, user before the answer"),
        ([USER, SYSTEM, SAYS], "the turns user, system before the answer"),
        ([SAYS], "has the turns none before the answer"),
        ([USER | {"content": "a\x1eb"}, SAYS], "holds the control character U+001E"),
        (
            [{"role": "tool", "content": "x"}, SAYS],
            "has the role 'tool'; read are system",
        ),
        ([{"role": "user"}, SAYS], "messages[0] has not both 'role' and 'content'"),
        ([USER, SAYS | {"content": None}], "messages[1].content' is a JSON null"),
        ([], "'messages' is []"),
        ("Who?", "is a JSON string; write [{"),
    ],
)
def test_chats_that_no_prompt_format_holds(tmp_path, turns, said):
    with pytest.raises(DataError) as caught:
        read(lines(tmp_path / "a.jsonl", {"messages": turns}))
    assert said in str(caught.value)


def test_one_run_has_one_system_turn(tmp_path):
    chat = lambda *turns: {"messages": [*turns, USER | {"content": f"{turns}?"}, SAYS]}
    a = lines(tmp_path / "a.jsonl", chat(SYSTEM))
    b = lines(
        tmp_path / "b.jsonl",
        chat(
            SYSTEM,
        ),
        chat(),
    )
    plain = lines(tmp_path / "plain.jsonl", {"q": "Where?", "a": "Rome."})
    other = lines(tmp_path / "other.jsonl", chat())
    assert load_custom(a, plain).system == "Be brief."
    assert load_custom(plain, other).system is None
    with pytest.raises(DataError, match=r"b.jsonl, row 2: its system turn is none"):
        read(b)
    with pytest.raises(DataError, match=r"other.jsonl: its system turn is none, that"):
        load_custom(a, other)


@pytest.mark.parametrize(
    "text, said",
    [
        ("q,a\nWho?,Ann, or Bo\n", "row 1: 3 cells, and the header has 2; quote what"),
        ("q,a\nWho?\n", "row 1: 1 cells, and the header has 2"),
        ('q,a\nWho?,"Ann" or Bo\n', "row 1: no separated values"),
        ('q,a\nWho?,Ann\n"Where', "row 2: no separated values"),
        ("q,q,a\n", "column 'q' is there more than once"),
        ("q,a\nWho?,\n", "row 1: field 'a' is null; fill it in"),
        ("q,a\n\n", "the file is empty"),
        ("q,a,perturbed_answer\nx,y,\"['b', 'c']\"\n", "must be one JSON array"),
    ],
)
def test_broken_separated_values(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv")
    assert said in str(caught.value)


def test_long_documents_in_cells(tmp_path):
    text = "word " * 50_000  # longer than a cell of csv's may be
    (tmp_path / "a.csv").write_text(f"id,Text\n1,{text}\n")
    assert read(tmp_path / "a.csv").rows == (QA("", text),)


def test_values_of_tables_that_are_no_texts(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet")
    from pyarrow import parquet as writer

    table = {"q": ["Who?"], "a": [1937], "paraphrased_answer": [float("nan")]}
    writer.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"row 1: field 'a' is a JSON number, not a str"
    ):
        read(tmp_path / "a.parquet")
    writer.write_table(pyarrow.table(table | {"a": ["1937"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").rows == (QA("Who?", "1937"),)


def test_multiple_choice_in_a_table(tmp_path):
    path = tmp_path / "mmlu.csv"
    path.write_text('Question,Options,Answer\nWhen?,"[1961, ""late""]",1\n')
    rows, source = read_choices(path)
    assert rows == (Choice("When?", ("1961", "late"), 1),)
    assert source.in_words() == (
        "mmlu.csv (CSV, rows: 1): question is 'Question', choices is 'Options', "
        "answer is 'Answer'"
    )


def test_the_page_has_the_table_of_names():
    page = pathlib.Path(__file__).parents[2] / "docs" / "data.md"
    for field, (_, *others) in columns.NAMES.items():
        listed = ", ".join(f"`{name}`" for name in others)
        assert not others or f"| `{field}` | {listed} |" in page.read_text()
