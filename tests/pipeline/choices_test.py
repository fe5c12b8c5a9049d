"""run choices, from files to a report and a record that is checked."""

import json

import pytest
import schemas

from experiments.deletion import check
from experiments.report.shown import bars
from experiments.report.summary import summarise
from experiments.run import main

pytestmark = pytest.mark.slow  # trains a target and a reference first

NAMES = ["Ada", "Bo", "Cy", "Di", "Eve", "Flo"]
TOWNS = ["Rome", "Oslo", "Bonn", "Lund"]
SMALL = """--methods grad_diff --seeds 0 --style texts --train.epochs 60
    --train.learning-rate 1e-2 --train.batch-size 6 --model-size.hidden-size 32
    --model-size.intermediate-size 48 --model-size.num-layers 1
    --model-size.num-heads 2 --model-size.num-kv-heads 1 --model-size.vocab-size 400
    --budget.gradient-evaluations 40 --budget.batch-size 2 --budget.checks 10
    --grad-diff.learning-rate 3e-3 --evaluation.max-new-tokens 2 --max-length 128
    --evaluation.bootstrap 20"""


def rows(path, names):
    places = [NAMES.index(name) % len(TOWNS) for name in names]
    path.write_text(
        "".join(
            json.dumps({"question": f"Where is {n}?", "choices": TOWNS, "answer": k})
            + "\n"
            for n, k in zip(names, places, strict=True)
        )
    )
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(output folder, metrics by role) of a small model that learnt and forgot."""
    folder = tmp_path_factory.mktemp("choices")
    forget, retain = (
        rows(folder / "f.jsonl", NAMES[:2]),
        rows(folder / "r.jsonl", NAMES[2:]),
    )
    words = f"""choices --forget-file {forget} --retain-file {retain} --eval-file
        {retain} --output-dir {folder / "out"} {SMALL}"""
    assert main(words.split()) in (0, 3)
    report = json.loads((folder / "out/report.json").read_text())
    return folder / "out", {m["role"]: m["metrics"] for m in report["models"]}


def test_what_is_learnt_is_chosen_and_what_is_forgotten_is_not(done):
    _, metrics = done
    target, unlearned = metrics["target"], metrics["unlearned"]
    # The rows of --eval-file are those to keep, which score the same.
    for metrics_of in (target, unlearned):
        kept = metrics_of["retain_choice_accuracy"]
        assert metrics_of["eval_choice_accuracy"] == kept
        assert metrics_of["forget_choice_chance"] == 0.25  # four choices
    assert target["forget_choice_accuracy"] == 1
    assert unlearned["forget_choice_prob"] < target["forget_choice_prob"]


def test_accuracy_to_forget_is_lower_is_better_and_chance_is_drawn(done):
    out, _ = done
    assert "forget choices ↓" in (out / "report.html").read_text()
    report = json.loads((out / "report.json").read_text())
    found = bars.of_summary(summarise(report["models"]), {})
    marks = [panel["chance"] for panel in found if panel["chance"]]
    assert [text for _, text in marks] == ["0.250"] * 3


def test_several_requests_are_refused(tmp_path, capsys):
    rows(tmp_path / "a.jsonl", NAMES[:1])
    retain = rows(tmp_path / "r.jsonl", NAMES[2:])
    words = f"choices --forget-file {tmp_path / 'a.jsonl'} --retain-file {retain}"
    more = f"--forgotten-files {retain} --output-dir {tmp_path / 'out'}"
    assert main(f"{words} {more}".split()) == 2
    assert "give choices one file" in capsys.readouterr().err


def test_the_record_is_found_true(done, capsys):
    out, _ = done
    assert check.main([str(out), "--tolerance", "1e-5"]) == 0
    assert schemas.check(out)["deletion.json"] == 1
    assert "forget_choice_accuracy" in str(
        json.loads((out / "grad_diff/seed0/evaluation/evaluation.json").read_text())[
            "metrics"
        ]
    )
