"""Panels and bars of a report, against what they were drawn from."""

import itertools
import math

import numpy as np
import pytest

from experiments.report import figures, write
from experiments.report.gaps import with_gaps
from experiments.report.shown import bars, curves, panels


@pytest.fixture
def rows(content):
    return write.summarise(content["models"])


@pytest.fixture
def palette(rows):
    return figures.colors(rows)


def test_trajectories(content, rows, palette):
    forget, retain = curves.trajectories(content["models"], rows, palette)
    assert len(forget.lines) == len(retain.lines) == 6  # two methods, three seeds
    levels = {level.style: level.at for level in forget.levels}
    assert levels == {"dashed": pytest.approx(0.1), "dotted": pytest.approx(0.9)}
    np.testing.assert_allclose(
        forget.lines[0].points, [(0, 0.9), (4, 0.7), (8, 0.5)], atol=1e-12
    )
    assert forget.y_range == (0.0, 1.0)
    content["models"][2]["trajectory"] = []
    assert len(curves.losses(content["models"], palette)[0].lines) == 5


def test_cosine_and_penalty(content, palette):
    (panel,) = curves.cosine(content["models"], palette)
    assert len(panel.lines) == 6 and [level.at for level in panel.levels] == [0.0]
    norm, rho = curves.penalty(content["models"], palette)
    assert len(norm.lines) == len(rho.lines) == 3  # OFMU alone
    assert norm.y_log and rho.y_log
    for model in content["models"]:
        for row in model["trajectory"]:
            row.pop("phi_grad_norm", None)
            row.pop("cosine", None)
    assert curves.penalty(content["models"], palette) == []
    assert curves.cosine(content["models"], palette) == []


def test_a_penalty_of_zero_has_a_panel(content, palette):
    for model in content["models"]:
        for row in model["trajectory"]:
            if "rho" in row:
                row["rho"] = 0.0
    norm, rho = map(panels.drawn, curves.penalty(content["models"], palette))
    assert rho["lines"][0]["paths"] and '"y": [0' not in norm["scale"]
    assert {"0.01", "1"} <= {text for _, text in norm["y_ticks"]}


def test_long_curves_are_smoothed(content, palette):
    rows = [
        {"step": i, "gradient_evaluations": i, "forget_loss": float(i % 2)}
        for i in range(100)
    ]
    content["models"][2]["trajectory"] = rows
    (panel,) = curves.losses(content["models"][2:3], palette)
    raw, smooth = panel.lines
    assert raw.faint and not smooth.faint
    values = [y for _, y in smooth.points]
    assert np.ptp(values[5:-5]) < 0.3 and np.ptp([y for _, y in raw.points]) == 1
    many = [{**content["models"][2], "seed": seed} for seed in range(9)]
    assert len(curves.losses(many, palette)[0].lines) == 9  # too many for raw ones


def test_smoothing_keeps_a_straight_line():
    values = 2.0 * np.arange(100)
    np.testing.assert_allclose(panels.smooth(values)[2:-2], values[2:-2])


def test_tradeoff(content, rows, palette):
    assert curves.tradeoff(content["models"], rows, palette) == []  # no gaps
    models = with_gaps(content["models"])
    (panel,) = curves.tradeoff(models, write.summarise(models), palette)
    shapes = [dot.shape for dot in panel.dots]
    assert shapes.count("run") == 6 and shapes.count("dot") == 2
    assert shapes.count("retrained") == 1
    ofmu = next(dot for dot in panel.dots if dot.shape == "dot")
    assert ofmu.at == (pytest.approx(0.1), pytest.approx(0.5))
    assert ofmu.tip == "OFMU: forget gap 0.100, model utility 0.500"
    # Its gaps are 0, 0.1 and 0.2; Student's interval would begin at 0.1 − 0.248.
    assert ofmu.bars[0] == (0.0, pytest.approx(0.3484, abs=1e-4))
    # The target's gap, 0.8, is four times what the runs span.
    (away,) = [dot for dot in panel.dots if dot.shape == "away"]
    assert away.label == "Target (before): 0.800" and away.at[0] < 0.3
    assert curves.tradeoff([], [], {}) == []


def test_axes_show_nothing_that_cannot_be():
    axis = panels.axis_of([0.4, 0.999], 0.0, 100.0, (0.0, 1.0))
    assert axis.high == 1.0 and 0.3 < axis.low < 0.4 and 1.0 in axis.ticks
    assert axis(axis.low) == 0.0 and axis(1.0) == 100.0
    log = panels.axis_of([1e-3, 0.0, 10.0], 0.0, 100.0, panels.WHOLE, log=True)
    assert log(0.1) == pytest.approx(50.0) and not log.shows(0.0)
    assert log.ticks == pytest.approx([1e-3, 1e-2, 0.1, 1.0, 10.0])
    assert panels.axis_of([2.0], 0.0, 1.0, panels.WHOLE)(2.0) == 0.5
    assert panels.axis_of([], 0.0, 1.0, panels.WHOLE).ticks


def test_gaps_divide_a_line_and_labels_do_not_overlap():
    points = [(0.0, 0.0), (1.0, math.nan), (2.0, 1.0), (3.0, 1.0)]
    dots = [panels.Dot(name, "red", (1.0, 0.5), name) for name in ("one", "two")]
    line = panels.Line("x", "red", points)
    found = panels.drawn(panels.Panel("", "", "", [line], dots))
    assert [len(path.split()) for path in found["lines"][0]["paths"]] == [1, 2]
    first, second = found["labels"]
    assert second["y"] - first["y"] >= panels.LINE
    assert second["moved"] and not first["moved"]


def test_attack_curves_keep_the_methods_colours(palette):
    curve = {"attack": "relearn", "at": [0, 1], "values": [0.1, None]}
    found = {
        "attacks": {"relearn": {"title": "R", "axis": "steps", "unit": "u"}},
        "curves": [
            curve | {"role": "unlearned", "method": "gradient_ascent"},
            curve | {"role": "retrained", "method": "retrained"},
        ],
    }
    (panel,) = curves.attack_curves(found, palette)
    ascent, retrained = panel.lines
    assert ascent.colour == palette["Gradient ascent"] != palette["OFMU"]
    assert (ascent.style, retrained.style) == ("", "dashed")
    assert math.isnan(ascent.points[1][1])
    assert curves.attack_curves(None, palette) == []


def test_a_method_has_one_colour_in_all_runs(rows):
    of = [{**row, "run": run} for run, row in itertools.product("ab", rows)]
    palette = figures.colors(of)
    assert palette["OFMU · a"] == palette["OFMU · b"] == figures.colors(rows)["OFMU"]


def test_bars(rows, palette):
    forget, retain, _ = bars.of_summary(rows, palette)
    assert forget["title"] == "forget prob. →ref" and "forget_Q_A_Prob" in forget["tip"]
    # The longest interval ends at 0.2 + 0.248, the target at 0.9: shown up to 1.
    widths = [row["bar"][1] for row in forget["rows"]]
    assert widths == pytest.approx([10.0, 90.0, 20.0, 0.0], abs=0.1)
    start, width = forget["rows"][2]["interval"]
    assert start == 0.0 and width == pytest.approx(44.8, abs=0.1)
    assert forget["level"] == (10.0, "0.100") and forget["chance"] is None
    assert retain["rows"][0]["text"] == "0.900"
    assert bars.of_summary(rows, palette, ["absent"]) == []


def test_bars_start_at_nought():
    rows = [
        bars.Bar(str(x), "red", {"mean": x, "low": None, "high": None})
        for x in (-1.0, 3.0)
    ]
    down, up = bars.panel("x", rows)["rows"]
    assert sum(down["bar"]) == pytest.approx(up["bar"][0], abs=0.11)
    assert up["bar"][1] == pytest.approx(3 * down["bar"][1], abs=0.35)
