"""Figures of a report, against what they were drawn from."""

import numpy as np
import pytest

from experiments.report import figures, summary_figures, write
from experiments.report.gaps import with_gaps


@pytest.fixture
def rows(content):
    return write.summarise(content["models"])


def lines(axes, gid=None):
    """Lines of one gid; without it, all but the levels of target and reference."""
    if gid is not None:
        return [line for line in axes.lines if line.get_gid() == gid]
    return [x for x in axes.lines if x.get_gid() not in ("reference", "target")]


def test_trajectories(content, rows):
    forget, retain = figures.trajectory_figure(content["models"], rows).axes
    assert len(lines(forget)) == len(lines(retain)) == 6  # two methods, three seeds
    assert lines(forget, "reference")[0].get_ydata()[0] == pytest.approx(0.1)
    assert lines(forget, "target")[0].get_ydata()[0] == pytest.approx(0.9)
    np.testing.assert_allclose(lines(forget)[0].get_xdata(), [0, 4, 8])
    np.testing.assert_allclose(lines(forget)[0].get_ydata(), [0.9, 0.7, 0.5])
    content["models"][2]["trajectory"] = []
    assert len(lines(figures.loss_figure(content["models"]).axes[0])) == 5


def test_cosine_and_penalty(content):
    (axes,) = figures.cosine_figure(content["models"]).axes
    assert len(lines(axes)) == 6 + 1 and len(lines(axes, "zero")) == 1
    norm, rho = figures.penalty_figure(content["models"]).axes
    assert len(lines(norm)) == len(lines(rho)) == 3  # OFMU alone
    assert norm.get_yscale() == rho.get_yscale() == "log"
    for model in content["models"]:
        for row in model["trajectory"]:
            row.pop("phi_grad_norm", None)
            row.pop("cosine", None)
    assert figures.penalty_figure(content["models"]) is None
    assert figures.cosine_figure(content["models"]) is None


def test_a_penalty_of_zero_has_a_plot(content):
    for model in content["models"]:
        for row in model["trajectory"]:
            if "rho" in row:
                row["rho"] = 0.0
    figure = figures.penalty_figure(content["models"])
    assert figure.axes[1].get_yscale() == "linear"
    assert "$" not in figures.to_svg(figure, "penalty")  # no raw math text
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert {"0.01", "1"} <= set(labels)


def test_long_curves_are_smoothed(content):
    rows = [
        {"step": i, "gradient_evaluations": i, "forget_loss": float(i % 2)}
        for i in range(100)
    ]
    content["models"][2]["trajectory"] = rows
    (axes,) = figures.loss_figure(content["models"][2:3]).axes
    assert len(axes.lines) == 2 and len(lines(axes, "raw")) == 1
    assert np.ptp(axes.lines[1].get_ydata()[5:-5]) < 0.3


def test_smoothing_keeps_a_straight_line():
    values = 2.0 * np.arange(100)
    np.testing.assert_allclose(figures._smooth(values)[2:-2], values[2:-2])


def test_tradeoff(content, rows):
    assert summary_figures.tradeoff_figure(content["models"], rows) is None  # no gaps
    models = with_gaps(content["models"])
    figure = summary_figures.tradeoff_figure(models, write.summarise(models))
    (axes,) = figure.axes
    assert len(axes.containers) == 4  # a point with error bars per method
    assert len(lines(axes, "run")) == 6
    assert summary_figures.tradeoff_figure([], []) is None


def test_bars(content, rows):
    axes = summary_figures.bar_figure(rows).axes
    drawn = [a for a in axes if a.axison]
    assert len(drawn) == 3
    assert [len(a.patches) for a in drawn] == [4, 4, 4]
    widths = [patch.get_width() for patch in drawn[0].patches]
    np.testing.assert_allclose(widths, [0.1, 0.9, 0.2, 0.0], atol=1e-12)
    assert len(lines(drawn[0], "reference")) == 1
    assert summary_figures.bar_figure(rows, ["absent"]) is None
