"""Attacks on folders: what is refused before, and what is done again."""

import json

import pytest

from experiments import attack
from experiments.config.language import ModelConfig, Request
from experiments.domains.language import handed_back
from experiments.domains.language.data import load_data
from experiments.domains.language.domain import LanguageDomain

FORGET = [("Where was Ada born?", "In Lund."), ("Who is Ada?", "A writer.")]
KEEP = [("Where is Rome?", "In Italy."), ("Who is Bo?", "A painter.")]


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(pairs):
    return [{"question": q, "answer": a} for q, a in pairs]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Rows, and small models of random weights: two alike, one that is smaller."""
    folder = tmp_path_factory.mktemp("given")
    write(folder / "forget.jsonl", asked(FORGET))
    write(folder / "keep.jsonl", asked(KEEP))
    write(folder / "long.jsonl", asked([*KEEP, ("Who?", "A painter. " * 50)]))
    write(folder / "texts.jsonl", [{"text": " ".join(sum(FORGET, ()))}])
    entity = {"question": "Who is Ed?", "answer": "A cook.", "entity": "cook"}
    (folder / "entities.json").write_text(json.dumps([entity | {"prefix": "A "}]))
    for name, size in (("model", 16), ("retrained", 16), ("other", 8)):
        run = Request(
            forget_file=folder / "forget.jsonl",
            retain_file=folder / "keep.jsonl",
            model_size=ModelConfig(8, size, 1, 1, 1, 400),
            max_length=64,
        )
        task = LanguageDomain.on(run, *load_data(run)).task
        handed_back.write(task, folder / name, task.init_params(len(name)))
    return folder


def words(given, out, *more, forget="forget.jsonl", attacks="int4"):
    text = f"""{given}/model --forget-file {given}/{forget} --output-dir {out}
        --evaluation.batch-size 4 --evaluation.max-new-tokens 8 --max-length 64
        --attacks {attacks}"""
    return [*text.split(), *map(str, more)]


def test_a_yardstick_that_is_given_later_redoes_nothing(given, tmp_path):
    """Each model is filed under its own files."""
    assert attack.main(words(given, tmp_path)) == 0
    mark = tmp_path / "unlearned/attacks/int4.stage.json"
    before = mark.stat().st_mtime_ns
    more = ("--retain-model", given / "retrained")
    assert attack.main(words(given, tmp_path, *more)) == 0
    assert mark.stat().st_mtime_ns == before
    (row,) = json.loads((tmp_path / "attacks.json").read_text())["rows"]
    assert row["difference"] == row["after"] - row["reference"] != 0


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        (["--retain-file", "long.jsonl"], {}, "retain set, row 3: question 'Who?'"),
        (["--target-model", "other"], {}, "--target-model"),
        (["--retain-model", "other"], {}, "has another architecture than"),
        (["--holdout-file", "forget.jsonl"], {}, "row 1: a training row"),
        ([], {"forget": "."}, "requests, and they are taken one after another by run"),
        ([], {"attacks": "int4 nonsense"}, "--attacks nonsense is unknown"),
        (
            ["--attack.entities-file", "entities.json"],
            {},
            "none of its 1 entities is in a scored answer",
        ),
        (
            [],
            {"forget": "texts.jsonl", "attacks": "all agreement paraphrase"},
            "--attacks paraphrase agreement: questions are asked there",
        ),
    ],
)
def test_what_cannot_be_attacked_is_refused_first(
    given, tmp_path, more, options, said, capsys
):
    more = [word if word[0] == "-" else given / word for word in more]
    assert attack.main(words(given, tmp_path / "out", *more, **options)) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "out").rglob("*.stage.json"))


def test_documents_are_attacked_by_their_passages(given, tmp_path):
    more = ("--evaluation.prefix-tokens", 4)
    assert attack.main(words(given, tmp_path, *more, forget="texts.jsonl")) == 0
    (row,) = json.loads((tmp_path / "attacks.json").read_text())["rows"]
    assert 0 < row["after"] < 1
