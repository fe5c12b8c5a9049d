"""Runs of different budgets as one published file, and as a table on a page."""

import pathlib

from published_toys import add_budgets as add
from published_toys import run_report

from experiments.publishing import budgets
from experiments.report import published

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/results/tofu.md"
FILE = ROOT / "docs/results/budgets_forget01.json"


def model(role, method, seed, forget, **others):
    metrics = {"forget_Q_A_Prob": forget, "retain_Q_A_Prob": 0.75, "model_utility": 0.5}
    costs = {"seconds": 2.0, "gradient_evaluations": 4.0}
    found = {"role": role, "method": method, "seed": seed, "metrics": metrics}
    return {**found, **costs, "export": None, **others}


def report(method, budget, forget, rows=3):
    """Gaps of this file: what the forget probability is above the retrained 0.125."""
    unlearned = [model("unlearned", method, seed, x) for seed, x in enumerate(forget)]
    trained = [
        model("retrained", "retrained", 0, 0.125),
        model("target", "target", 0, 1),
    ]
    return run_report(
        method,
        recipe={"budget": {"gradient_evaluations": budget}},
        data={"name": "TOFU", "counts": {"forget": rows}},
        models=[*trained, *unlearned],
    )


def test_a_curve_grows_run_by_run(tmp_path, capsys):
    add(tmp_path, report("npo", 300, [0.625, 0.625]))
    add(tmp_path, report("rmu", 300, [0.375, 0.375]))
    status, file = add(tmp_path, report("npo", 1200, [0.125, 0.25, 0.375]))
    assert status == 0
    shown = capsys.readouterr().out
    assert "| Method | 300 gradients | 1,200 gradients |" in shown
    # 0.125 ± t(2) s / √3 with t = 4.303 and s = 0.125; two seeds have no interval.
    npo, rmu = "| NPO | 0.500 | 0.125 ±0.311 |", "| RMU | 0.250 | — |"
    assert shown.rindex(npo) < shown.rindex(rmu)  # the one that comes nearest first
    text = file.read_text()
    assert "not kept" not in text and "/m/" not in text
    found = published.load(file, published.BUDGETS)
    assert [run["made"] for run in found["runs"]] == [
        [["npo", 300, 0], ["npo", 300, 1]],
        [["rmu", 300, 0], ["rmu", 300, 1]],
        [["npo", 1200, k] for k in range(3)],
    ]
    assert add(tmp_path, report("npo", 1200, [0.125, 0.25]), "--check")[0] == 0
    assert add(tmp_path, report("npo", 1200, [0.125, 0.375]), "--check")[0] == 1


def test_a_model_that_is_made_again_takes_the_place_of_the_old_one(tmp_path):
    add(tmp_path, report("npo", 300, [0.625, 0.625]))
    _, file = add(tmp_path, report("npo", 300, [0.25]))
    found = published.load(file, published.BUDGETS)
    assert [run["made"] for run in found["runs"]] == [
        [["npo", 300, 1]],
        [["npo", 300, 0]],
    ]
    gaps = [x["metrics"]["overall_gap"] for x in found["models"]]
    assert gaps == [0.125, 0.5]


def test_what_does_not_compare_is_refused(tmp_path, capsys):
    _, file = add(tmp_path, report("npo", 300, [0.25]))
    before = file.read_text()
    assert add(tmp_path, report("npo", 600, [0.25], rows=4))[0] == 2
    assert "write another file" in capsys.readouterr().err
    alone = report("npo", 600, [0.25])
    alone["models"] = [x for x in alone["models"] if x["role"] != "retrained"]
    assert add(tmp_path, alone)[0] == 2
    assert "compared with a retrained model" in capsys.readouterr().err
    images = report("npo", 600, [0.25])
    images["recipe"] = {"unlearn_epochs": 5}
    assert add(tmp_path, images)[0] == 2
    assert "in epochs" in capsys.readouterr().err
    assert file.read_text() == before


def test_the_page_has_the_table_of_the_file():
    table = budgets.section(published.load(FILE, published.BUDGETS))
    assert table.strip() in PAGE.read_text()
