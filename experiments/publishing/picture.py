"""The picture of the README: TOFU forget01, what is forgotten against what is kept.

`write` draws it from the published results, so no number of it is typed by hand.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from experiments.report.figures import INK, STYLE
from experiments.report.glossary import method_label

RESULTS = pathlib.Path(__file__).parents[1] / "results"
FILE = "forget01.svg"
TUNED = "tofu_forget01_tuned24.json"
FORGET, RETAIN = "forget_Q_A_Prob", "retain_Q_A_Prob"
GOALS = {"retrained": "Retrained: the goal", "target": "Before unlearning"}
DARK, PAPER = "#1f2328", "#ffffff"  # also where the page around it is dark
FAINT = "#57606a"
COLORS = {"OFMU": "#1d5fd1"}
# Label -> offset in points and the side that is aligned; the others: upper right.
PLACES = {
    "OFMU": (7, -14, "left"),
    "RMU": (-9, 5, "right"),
    "NPO with SAM": (-9, -14, "right"),
    "IdkDPO": (-6, -14, "right"),
    "HAMU": (8, -14, "left"),
    "KL minimisation": (-8, 6, "right"),
    "PCGrad": (8, -14, "left"),
    "GradDiff": (8, -14, "left"),
    "WGA": (8, -14, "left"),
    "Before unlearning": (-8, 7, "right"),
    "Gradient ascent": (-8, 6, "right"),
    "Retrained: the goal": (9, 7, "left"),
}


Interval = Mapping[str, Any]  # mean, low, high, n


def points() -> dict[str, tuple[Interval, Interval]]:
    """Label -> forget and retain probability, each as mean, low and high."""
    found = {}
    for row in json.loads((RESULTS / TUNED).read_text())["summary"]:
        label = GOALS.get(row["role"]) or method_label(row)
        found[label] = row["metrics"][FORGET], row["metrics"][RETAIN]
    return found


def write(folder: pathlib.Path) -> pathlib.Path:
    """Draws the picture into ``folder``; returns the path of the file."""
    style = dict.fromkeys((k for k, v in STYLE.items() if v == INK), DARK)
    style |= {"svg.fonttype": "path", "grid.color": "#e4e7eb", "font.size": 10}
    with matplotlib.rc_context(STYLE | style):
        figure = Figure(figsize=(8, 4.6), layout="constrained", facecolor=PAPER)
        axes = figure.add_subplot(facecolor=PAPER, xscale="log", xlim=(1.2e-3, 1.2))
        axes.set_ylim(0.45, 0.98)
        for label, (x, y) in points().items():
            goal = label in GOALS.values()
            marker, size = ("*", 13) if goal else ("o", 6)
            ink = DARK if goal else COLORS.get(label, FAINT)
            mean, (x_bar, y_bar) = (x["mean"], y["mean"]), map(_bar, (x, y))
            axes.errorbar(*mean, y_bar, x_bar, marker, color=ink, ms=size, lw=1.2)
            dx, dy, side = PLACES.get(label, (7, 5, "left"))
            place = {"xytext": (dx, dy), "textcoords": "offset points", "ha": side}
            axes.annotate(label, mean, **place, color=ink)
        axes.set_xlabel("probability of the answers to forget, log scale")
        axes.set_ylabel("probability of the answers to keep")
        axes.xaxis.set_major_formatter("{x:g}")
        path = folder / FILE
        figure.savefig(path, metadata={"Date": None})
    return path


def _bar(value: Interval) -> list[list[float]] | None:
    """Lengths of an error bar to both sides; None of a single model."""
    if value["low"] is None:
        return None
    return [[value["mean"] - value["low"]], [value["high"] - value["mean"]]]
