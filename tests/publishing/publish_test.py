"""Published results: what is kept of a report, and whether a run repeats them."""

import copy
import json

import pytest

from experiments import publish
from experiments.publishing import ablations as of_ablations
from experiments.publishing import page as results_page
from experiments.publishing import run as of_run
from experiments.report import published as files
from experiments.report import write

SECRET = "a text of the data"


def model(role, method, seed, forget):
    return {
        "role": role,
        "method": method,
        "seed": seed,
        "metrics": {
            "forget_Q_A_Prob": forget,
            "model_utility": 0.6,
            "mia_loss_gap": 0.01,  # minor
            "run_time_minutes": 1.5,
        },
        "notes": [SECRET],
        "seconds": 61.0,
        "gradient_evaluations": 600.0,
        "peak_bytes": 2**20,
        "outer_steps": 300,
        "forget_target": 1.25,
        "stopped": "budget used up",
        "export": f"{method}/seed{seed}/hf",
        "trajectory": [{"step": 0, "gradient_evaluations": 0, "forget_loss": 0.5}],
    }


@pytest.fixture
def content():
    return {
        "schema_version": 1,
        "title": "A run",
        "created": "2025-01-31T12:00:00+00:00",
        "command": "python -m experiments.run tofu --data-dir /machine/tofu "
        "--output-dir runs/tofu --model=/machine/m",
        "recipe": {"data_dir": "/machine/tofu", "output_dir": "runs/tofu", "tune": 2},
        "environment": {
            "ofmu_jax": "0.1.0",
            "jax": "0.10.2",
            "cpu": "A processor",
            "cores": 2,
            "platform": "not kept",
        },
        "data": {"name": "TOFU", "counts": {"forget": 40}},
        "models": [
            model("retrained", "retrained", 0, 0.1),
            model("unlearned", "ofmu", 0, 0.3),
            model("unlearned", "npo", 0, 0.1 + 0.2),
        ],
        "claims": [],
        "tuning": {
            "ofmu": [
                {"trial": 0, "config": {"x": 1}, "score": 0.5, "chosen": False},
                {"trial": 1, "config": {"x": 2}, "score": 0.4, "chosen": True}
                | {"check": {"forget_prob": 0.1}},
            ]
        },
    }


@pytest.fixture
def published(tmp_path, content):
    write.write_report(tmp_path / "run", content)
    file = tmp_path / "results" / "tofu.json"
    assert publish.main([str(tmp_path / "run"), str(file)]) == 0
    return file


def test_what_is_kept(published):
    text = published.read_text()
    found = json.loads(text)
    assert "machine" not in text and SECRET not in text
    assert "trajectory" not in text and "not kept" not in text
    assert found["command"] == (
        "python -m experiments.run tofu --data-dir tofu --output-dir runs/tofu "
        "--model=m"
    )
    assert found["recipe"] == {"data_dir": "tofu", "output_dir": "runs/tofu", "tune": 2}
    assert found["code"]["ofmu_jax"] == "0.1.0"
    assert found["environment"] == {"jax": "0.10.2", "cpu": "A processor", "cores": 2}
    assert [trial["score"] for trial in found["tuning"]["ofmu"]] == [0.5, 0.4]
    assert "check" not in found["tuning"]["ofmu"][1]
    ofmu = found["models"][1]
    assert ofmu["metrics"]["forget_gap"] == 0.3 - 0.1
    assert "mia_loss_gap" not in ofmu["metrics"]
    assert (ofmu["forget_target"], ofmu["gradient_evaluations"]) == (1.25, 600.0)
    assert found["summary"][1]["peak_bytes"]["mean"] == 2**20
    assert len(found["comparison"]["methods"]) == 2


def checked(tmp_path, content, file, capsys):
    write.write_report(tmp_path / "again", content)
    status = publish.main(["--check", str(tmp_path / "again"), str(file)])
    return status, capsys.readouterr().out


def test_check(tmp_path, content, published, capsys):
    again = copy.deepcopy(content)
    for row in again["models"]:  # what no run repeats
        row |= {"seconds": 1.0, "peak_bytes": 5}
        row["metrics"]["run_time_minutes"] = 9.0
    status, text = checked(tmp_path, again, published, capsys)
    assert status == 0 and text.endswith("0 differences\n")
    del again["models"][2]  # a part of the run
    assert checked(tmp_path, again, published, capsys)[0] == 0
    again["models"][1]["metrics"]["model_utility"] = 0.6 + 1e-16
    again["models"][1]["metrics"]["model_utility"] += 2e-16
    again["models"][1]["outer_steps"] = 299
    again["models"].append(model("unlearned", "ofmu", 7, 0.3))
    status, text = checked(tmp_path, again, published, capsys)
    assert status == 1
    assert "ofmu, seed 0: outer_steps is 299, published 300" in text
    assert "ofmu, seed 0: model_utility is 0.600000000000000" in text
    assert "ofmu, seed 7: not published" in text
    assert text.endswith("3 differences\n")


def test_a_metric_on_one_side_alone_differs(published):
    found = files.load(published, files.RUN)
    other = copy.deepcopy(found)
    del other["models"][1]["metrics"]["model_utility"]
    found, other = of_run.outcomes(found), of_run.outcomes(other)
    line = "ofmu, seed 0: model_utility is 0.6, published absent"
    assert files.differences(found, other) == [line]
    line = "ofmu, seed 0: model_utility is absent, published 0.6"
    assert files.differences(other, found) == [line]


def test_what_cannot_be_read(tmp_path, published, capsys):
    assert publish.main([str(tmp_path / "none"), str(published)]) == 2
    assert "does not exist" in capsys.readouterr().err
    published.write_text("{}")
    assert publish.main(["--check", str(tmp_path / "run"), str(published)]) == 2
    assert "publish it again" in capsys.readouterr().err


def ablations():
    stat = lambda mean: {"mean": mean, "low": None, "high": None, "n": 1}
    outcome = {"forget_prob": 0.25, "retain_prob": 0.75, "forget_nll": 3.0}
    variant = {
        "label": "β = 0",
        "series": "",
        "changes": {},
        "seeds": [0],
        "not_run": None,
        "statistics": {name: stat(value) for name, value in outcome.items()},
    }
    keys = (("beta", "ofmu", True), ("beta", "ofmu-beta-1.0", False))
    run = {"seed": 0, "metrics": outcome, "updates": 2, "seconds": 1.0}
    run |= {"gradient_evaluations": 12, "stopped": SECRET, "role": "unlearned"}
    run["trajectory"] = [
        {"step": s, "gradient_evaluations": 6 * s, "cosine": 0.5, "text": SECRET}
        for s in (1, 2)
    ]
    claim = {"id": "a", "text": "A claim", "verdict": "refuted", "rule": "A rule."}
    part = {"text": "a difference", **stat(-0.5), "verdict": "refuted"}
    return {
        "title": "Ablations: x",
        "created": "2025-01-31T12:00:00+00:00",
        "command": "python -m experiments.ablations tofu --data-dir /machine/tofu",
        "recipe": {"seeds": [0], "data_dir": "/machine/tofu"},
        "options": {},
        "environment": {"jax": "0.10.2", "cpu": "A processor", "cores": 2}
        | {"devices": ["TFRT_CPU_0"], "python": "3.11", "platform": "not kept"},
        "data": {"name": "TOFU", "counts": {"forget": 40}},
        "before": {"statistics": {}, "seeds": [{"text": SECRET}]},
        "variants": [
            {**variant, "group": g, "method": "ofmu", "key": key, "base": base}
            for g, key, base in keys
        ],
        "runs": [{**run, "method": key} for _, key, _ in keys],
        "not_run": {},
        "weighting": {},
        "difficulty": {"points": [], "methods": {}},
        "claims": [{**claim, "parts": [{**part, "decides": True}]}],
    }


def test_ablations_are_published_checked_and_shown(tmp_path, capsys):
    content, file = ablations(), tmp_path / "results" / "x.json"
    run = tmp_path / "run"
    run.mkdir()
    (run / "ablations.json").write_text(json.dumps(content))
    assert publish.main(["--ablations", str(run), str(file)]) == 0
    text = file.read_text()
    assert "machine" not in text and SECRET not in text and "not kept" not in text
    content["runs"][1]["seconds"] = 9.0  # what no run repeats
    (run / "ablations.json").write_text(json.dumps(content))
    check = ["--ablations", "--check", str(run), str(file)]
    assert publish.main(check) == 0
    content["runs"][1]["metrics"] = {**content["runs"][1]["metrics"], "cosine": 0.1}
    (run / "ablations.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert publish.main(check) == 1
    shown = capsys.readouterr().out
    assert "ofmu-beta-1.0, seed 0: cosine is 0.1, published absent" in shown
    result = files.load(file, files.ABLATIONS)
    page = results_page.section("x.json", result)
    assert "| **β = 0** | 0.250 | 0.750 | 3.000 |" in page
    assert "### (a) A claim: refuted" in page and "-0.500, n = 1" in page
    assert "![Cosine of the gradients" in page and "(x_a.svg)" in page
    written = of_ablations.write_figures(tmp_path, "x.json", result)
    assert written == ["x_a.svg"]
    first = (tmp_path / "x_a.svg").read_bytes()
    of_ablations.write_figures(tmp_path, "x.json", result)
    assert (tmp_path / "x_a.svg").read_bytes() == first
    assert publish.main(["--ablations", str(tmp_path / "none"), str(file)]) == 2


def test_the_page_of_tables_is_that_of_the_files():
    folder = results_page.RESULTS
    written = (folder / results_page.PAGE).read_text(encoding="utf-8")
    assert written == results_page.page(results_page.read(folder)), (
        "run python -m experiments.publish --tables"
    )
    for path in folder.glob("*.json"):
        assert f"`{path.name}`" in written
