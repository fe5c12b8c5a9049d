"""Files of a report, and the command that makes its page again."""

import copy
import json
import math

import numpy as np
import pytest
from reports import Page, written

from experiments.report import attacks, write
from experiments.report.gaps import with_gaps
from experiments.report.page import render_html
from experiments.report.shown import curves
from experiments.report.shown.budgets import budgets


def test_write_report(tmp_path, content):
    before = copy.deepcopy(content)
    data, text, _ = written(tmp_path / "new", content)
    assert content == before
    write.validate_report(data)
    assert data["summary"] == write.summarise(with_gaps(content["models"]))
    assert data["not_finite"] == []
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "report.html",
        "report.json",
    ]
    # The same content, read back, gives the same page.
    assert write.write_report(tmp_path / "again", data)[1].read_text() == text


def test_a_bad_report_leaves_the_old_files(tmp_path, content):
    paths = write.write_report(tmp_path, content)
    old = [path.read_bytes() for path in paths]
    content["models"][0]["metrics"]["x"] = "high"
    with pytest.raises(ValueError, match=r"metrics\.x"):
        write.write_report(tmp_path, content)
    assert [path.read_bytes() for path in paths] == old


def test_not_finite_values_are_null_and_named(tmp_path, content):
    model = content["models"][2]
    model["metrics"]["privleak"] = math.nan
    model["metrics"]["model_utility"] = np.float32(np.inf)
    model["intervals"]["privleak"] = (math.nan, 1.0)
    model["trajectory"][1]["forget_loss"] = -math.inf
    data, text, _ = written(tmp_path, content)
    assert data["models"][2]["metrics"]["privleak"] is None
    assert data["not_finite"] == [
        "models[2].intervals.privleak[0]",
        "models[2].metrics.model_utility",
        "models[2].metrics.privleak",
        "models[2].trajectory[1].forget_loss",
    ]
    assert "models[2].metrics.privleak" in text and "(2 of 3 seeds)" in text


def test_unserialisable_values_are_refused(content):
    content["recipe"]["loss"] = object()
    with pytest.raises(ValueError, match=r"recipe.loss is <object"):
        write.complete(content)


def test_trajectory_in_a_file(tmp_path, content):
    expected = written(tmp_path / "inline", content)[1]
    for model in content["models"]:
        rows, name = model["trajectory"], f"{model['method']}{model['seed']}.jsonl"
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        model["trajectory"] = name
    data, text, _ = written(tmp_path, content)
    assert data["models"][0]["trajectory"] == "target0.jsonl"
    assert text == expected
    (tmp_path / "ofmu1.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"models\[6\].trajectory names .*ofmu1"):
        write.write_report(tmp_path, content)


def test_command_line_renders_again(tmp_path, content, capsys):
    path = write.write_report(tmp_path, content)[1]
    page_text = path.read_text()
    path.unlink()
    assert write.main([str(tmp_path)]) == 0
    assert path.read_text() == page_text
    assert capsys.readouterr().out.strip() == str(path)


def test_command_line_compares(tmp_path, content):
    a, b = tmp_path / "a" / "out", tmp_path / "b" / "out"
    write.write_report(a, content)
    write.write_report(b, content)
    assert write.main([str(a), "--compare", str(b)]) == 0
    parsed = Page((a / "comparison.html").read_text())
    words = " ".join(parsed.text)
    assert "OFMU · a/out" in words and "OFMU · b/out" in words
    assert "../../b/out/ofmu/seed0/hf" in parsed.links
    assert "ofmu/seed0/hf" in parsed.links
    assert not parsed.open


def spending(content, gradients, gap):
    """The run with another budget, in which OFMU ends that far from the retrained."""
    found = copy.deepcopy(content)
    for model in found["models"]:
        if model["method"] == "ofmu":
            utility = {"model_utility": 0.6, "retain_Q_A_Prob": 0.9}
            model["metrics"] = {"forget_Q_A_Prob": 0.1 + gap, **utility}
            model |= {"gradient_evaluations": gradients, "seconds": gradients + 0.5}
    return found


def test_curves_over_the_budget(content):
    spent = {"a": (300.0, 0.25), "b": (150.0, 0.5), "c": (600.0, 0.125)}
    runs = {name: spending(content, *run) for name, run in spent.items()}
    merged = write.merge_reports(runs)
    gradients, seconds = budgets(merged["summary"])
    (line,) = gradients.lines  # the other method spends the same everywhere
    expected = [(150, 0.5), (300, 0.25), (600, 0.125)]
    np.testing.assert_allclose(line.points, expected)
    np.testing.assert_allclose(seconds.lines[0].points, expected)  # less compiling
    assert gradients.dots[0].tip == "OFMU, b: 0.500" and gradients.x_log
    assert "What more gradients buy" in render_html(merged)
    alone = write.complete(content)
    assert budgets(alone["summary"]) == []
    assert "more gradients buy" not in render_html(alone)


def test_comparison_of_different_data_says_so(content):
    other = copy.deepcopy(content)
    other["data"]["name"] = "cities"
    merged = write.merge_reports({"x": content, "y": other})
    assert "differ in their data" in merged["notes"][0]
    other = spending(content, 300.0, 0.25) | {"data": other["data"]}
    page = render_html(write.merge_reports({"x": content, "y": other}))
    assert "What more gradients buy" not in page
    assert len(merged["models"]) == 24 and len(merged["summary"]) == 8
    assert merged["claims"][2]["text"] == "y: it keeps"


def attacked(content, recovers, budget):
    """The run with one attack on OFMU."""
    row = {"method": "ofmu", "attack": "nf4", "seeds": 1, "word": "recovers"}
    row |= {"before": 0.1, "left": 0.0, "at": 1.0, "reference": 0.1, "target": 0.9}
    row |= {"recovered": recovers, "difference": 0.4, "after": 0.5, "said": ""}
    interval = [recovers - 0.05, recovers + 0.05]
    entry = {"title": "NF4", "source": "2305.14314", "unit": "P", "axis": "bits"}
    curve = {"attack": "nf4", "role": "unlearned", "method": "ofmu"}
    found = {
        "attacks": {"nf4": {**entry, "budget": budget}},
        "rows": [{**row, "interval": interval, "kinds": None}],
        "verdicts": [{"method": "ofmu", "word": "recovers", "text": f"nf4 {recovers}"}],
        "curves": [{**curve, "at": [1.0, 2.0], "values": [0.1, recovers]}],
        "missing": [{"attack": "lens", "model": "OFMU, seed 0", "why": "it broke"}],
    }
    return {**content, "attacks": found}


def test_attacks_of_several_runs_stand_side_by_side(content):
    """Each under the name of its run; budgets that differ are told, and so is a run
    without any."""
    runs = {
        "a": attacked(content, 0.25, "blocks of 64"),
        "b": attacked(content, 0.75, "blocks of 32"),
        "c": content,
    }
    found = write.merge_reports(runs)["attacks"]
    section, (panel,) = attacks.section(found), curves.attack_curves(found, {})
    assert section is not None
    assert section["methods"] == ["OFMU · a", "OFMU · b"]
    assert [cell["text"] for cell in section["matrix"][0]["cells"]] == [
        "25% [20%, 30%]",
        "75% [70%, 80%]",
    ]
    assert [text for *_, text in section["verdicts"]] == [
        "OFMU · a: “NF4” 0.25.",
        "OFMU · b: “NF4” 0.75.",
    ]
    assert [row["method"] for row in section["details"]] == section["methods"]
    (budget,) = section["budgets"]
    assert "do not compare: a: blocks of 64; b: blocks of 32" in budget["budget"]
    assert section["missing"] == [
        "lens: it broke (OFMU, a, seed 0; OFMU, b, seed 0)",
        "All attacks: it was run without --attacks (c)",
    ]
    assert [line.points[-1][1] for line in panel.lines] == [0.25, 0.75]
    alone = attacks.merged({"a": runs["a"]})
    assert alone is not None and alone["attacks"]["nf4"]["budget"] == "blocks of 64"
    assert attacks.merged({"c": content}) is None


def test_command_line_errors(tmp_path, content, capsys):
    assert write.main([str(tmp_path)]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("{}")
    assert write.main([str(tmp_path)]) == 2
    assert "is not a report: schema_version" in capsys.readouterr().err
    write.write_report(tmp_path, content)
    assert write.main([str(tmp_path), "--compare", str(tmp_path)]) == 2
    assert "names a folder twice" in capsys.readouterr().err
