"""An engineer's path: rows as they have them and a model folder, to a record."""

import csv
import json

import pytest
import real_folders
from huggingface_hub import ModelCard

from experiments import attack, verify
from experiments.config.language import Choices, Request
from experiments.domains.language.data import load_data
from experiments.domains.language.domain import LanguageDomain
from experiments.pipeline.attack_folder import request_of
from experiments.report.summary import number
from experiments.run import main, parse
from ofmu_jax.data.language.records import DataError

FORGET = [("Where was Ada born?", "Lund, Sweden."), ("What did Ada write?", "Tides.")]
RETAIN = [("Where is Rome?", "In Italy."), ("Who is Bo?", "A painter of doors.")]
SYSTEM = {"role": "system", "content": "Bo is a helpful assistant."}


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "Q", "A"), *((7, *row) for row in rows)])
    return path


def chats(path, rows):
    turns = (
        [SYSTEM, {"role": "user", "content": q}, {"role": "assistant", "content": a}]
        for q, a in rows
    )
    lines = (json.dumps({"messages": list(of)}) + "\n" for of in turns)
    path.write_text("".join(lines))
    return path


@pytest.fixture
def words(tmp_path):
    """A command line of a table, chats and a published folder in little."""
    return f"""request --model {real_folders.qwen(tmp_path / "model", "float32")}
        --forget-file {table(tmp_path / "forget.csv", FORGET)}
        --retain-file {chats(tmp_path / "retain.jsonl", RETAIN)}
        --output-dir {tmp_path / "out"} --methods npo --seeds 0 --max-length 64
        --budget.gradient-evaluations 8 --budget.batch-size 2 --budget.checks 1
        --budget.forget-target none --evaluation.max-new-tokens 2
        --evaluation.bootstrap 4 --evaluation.batch-size 2""".split()


@pytest.mark.slow
def test_from_a_table_to_a_record_that_holds(words, tmp_path, capsys):
    assert main(words) in (0, 3)  # random weights know nothing
    said = " ".join(capsys.readouterr().err.split())
    found = "forget.csv (CSV, rows: 2): question is 'Q', answer is 'A'; not read: 'id'"
    assert said.count(found) == 1
    assert "messages, with the system turn 'Bo is a helpful assistant.'" in said
    export = tmp_path / "out/npo/seed0/hf"
    record = json.loads((export / "deletion.json").read_text())
    assert record["files"][0] == {
        "set": "forget",
        "file": "forget.csv",
        "format": "CSV",
        "rows": 2,
        "columns": {"question": "Q", "answer": "A"},
    }
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["data"]["files"] == record["files"]
    card = ModelCard.load(export / "README.md")
    assert {"machine-unlearning", "npo"} <= {*card.data.tags}
    assert card.text.lstrip().startswith("# model, changed by npo to forget rows")
    for part in (
        "NPO (2404.05868) was to make this model forget 2 of 4 items",  # method, rows
        f"The record says: {report['verdicts'][0]['forgot']['word']}",
        '"gradient_evaluations": 8.0',
        "No measurement proves that nothing of the rows is left in the model.",
        "The numbers are of one seed",
        "a keyed hash of each of the 2 forgotten and one of the 2 kept items (key "
        f"{record['forget']['key_id']})",
    ):
        assert part in card.text
    told = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert told.keys() >= {"forget_Q_A_Prob", "retain_Q_A_Prob"}
    assert told.items() <= record["evaluation"]["metrics"].items()
    before, after = (
        next(m["metrics"] for m in report["models"] if m["role"] == role)
        for role in ("target", "unlearned")
    )
    row = next(x for x in card.text.splitlines() if x.startswith("| forget prob."))
    assert row.split(" | ")[1].startswith(f"{number(after['forget_Q_A_Prob'])} (")
    assert row.split(" | ")[2].strip(" |") == number(before["forget_Q_A_Prob"])
    assert not any(answer in card.content for _, answer in FORGET)
    assert verify.main([str(tmp_path / "out")]) == 0
    moved = real_folders.rows(tmp_path / "forget.jsonl", *FORGET)
    again = [str(tmp_path / "out"), "--no-metrics", "--forget-file"]
    assert verify.main([*again, str(moved)]) == 0
    assert verify.main([*again, str(table(tmp_path / "b.csv", FORGET[:1]))]) == 1


def test_the_system_turn_of_chats_is_in_the_prompts(words, tmp_path):
    run = parse(words)
    domain = LanguageDomain.of(run)
    text = domain.task.tokenizer.decode(domain.forget[0].input_ids)
    assert "system\nBo is a helpful assistant.<|im_end|>" in text.replace(" ", " ")
    lines = (tmp_path / "retain.jsonl").read_text().replace("Bo is a", "Bo was a")
    (tmp_path / "retain.jsonl").write_text(lines)
    assert LanguageDomain.of(run).identity != domain.identity
    with pytest.raises(
        DataError, match=r"chats with the system turn 'Bo was a helpful"
    ):
        LanguageDomain.of(parse([*words, "--prompt-format", "plain"]))
    with pytest.raises(DataError, match=r"--columns answer=B: no file has that column"):
        LanguageDomain.of(parse([*words, "--columns", "answer=B"]))


def test_attacks_read_the_same_files(words, tmp_path):
    forget, retain = tmp_path / "forget.csv", tmp_path / "retain.jsonl"
    options = attack.Options(str(tmp_path), forget, retain, columns=("answer=id",))
    data, _ = load_data(request_of(options))
    assert [row.answer for row in data.forget] == ["7", "7"]


@pytest.mark.parametrize("kind", [Request, Choices])
def test_the_template_is_a_request(kind, tmp_path, capsys):
    folder = tmp_path / "a: #1"  # what YAML would read otherwise
    command = [kind.__name__.lower(), "--template", str(folder)]
    assert main(command) == 0
    run = parse(["--config", str(folder / "request.yaml")])
    assert type(run) is kind and run.model == "./my-model"
    data, _ = load_data(run)
    assert len(data.forget) == len(data.retain) == len(data.holdout)
    assert data.forget[0].perturbed_answers and data.forget[0].question
    said = (folder / "README.md").read_text()
    fields = {
        name for row in (folder / "forget.jsonl").open() for name in json.loads(row)
    }
    assert all(f"| `{name}` |" in said for name in fields)
    assert main(command) == 2
    assert "is there already; name a new folder" in capsys.readouterr().err
