"""Figures of an ablation; `report.figures.to_svg` makes them part of a page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from experiments.report import figures
from experiments.report.shown import bars, curves

Rows = Sequence[Mapping[str, Any]]
SPENT = "gradient_evaluations"
# Metrics of a variant's bars, with their labels.
BARS = {
    "forget_prob": "forget probability",
    "retain_prob": "retain probability ↑",
    "cosine": "mean cosine",
    SPENT: "gradient evaluations",
}
# What a metric of these can be, where that is not 0 or more.
RANGES = {"forget_prob": (0.0, 1.0), "retain_prob": (0.0, 1.0), "cosine": (-1.0, 1.0)}


def group_bars(table: Rows, before: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """A panel per metric with a bar per variant; marked is the target. What all spent
    alike is not shown.

    Args:
      table: rows with ``label`` and ``statistics``; those not run have none of these.
      before: metric -> mean of the target.
    """
    table = [row for row in table if row.get("statistics")]
    spent = {(row["statistics"].get(SPENT) or {}).get("mean") for row in table}
    shown = {k: v for k, v in BARS.items() if k != SPENT or len(spent) > 1}
    return [
        bars.panel(
            label,
            [
                bars.Bar(
                    row["label"],
                    figures.PALETTE[0 if row["base"] else 1],
                    row["statistics"].get(name),
                )
                for row in table
            ],
            level=before.get(name),
            mark="Before",
            ends=RANGES.get(name, (0.0, math.inf)),
        )
        for name, label in (shown.items() if table else ())
    ]


def cosine_figure(table: Rows, rows: Rows) -> Figure | None:
    """The cosine along the runs of a group's variants, one line per seed: its running
    mean, over the raw values where they are many."""
    labels = {row["key"]: row["label"] for row in table}
    own = {row["key"] for row in table if row["base"]}  # first, for the bars' colour
    drawn = sorted(
        (row for row in rows if row["method"] in labels),
        key=lambda row: row["method"] not in own,
    )
    named = [{**row, "method": labels[row["method"]]} for row in drawn]
    found = curves.cosine(named, figures.colors(named), few=len(named))
    if not found:
        return None
    (panel,) = found
    handles: dict[str, Any] = {}
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 3.5), layout="constrained")
        axes = figure.subplots()
        for line in panel.lines:
            width, alpha = (0.6, 0.25) if line.faint else (1.5, 0.9)
            style: dict[str, Any] = {"linewidth": width, "alpha": alpha}
            style["color"] = line.colour
            style |= {"gid": "raw"} if line.faint else {}
            x, y = zip(*line.points, strict=True)
            marker = "o" if len(x) == 1 else None
            (drawn_line,) = axes.plot(x, y, marker=marker, **style)
            if not line.faint:
                handles.setdefault(line.group, drawn_line)
        axes.axhline(0.0, color=figures.INK, linewidth=0.8, gid="zero")
        axes.set_title("cosine of the gradients")
        axes.set_xlabel(panel.x)
        figures.legend(figure, handles)
    return figure


def weighting_figure(series: Mapping[str, Rows]) -> Figure | None:
    """Forget against retain probability over each series' grid; small is low weight.

    Args:
      series: name -> rows of its grid, in order, with ``statistics``.
    """
    drawn = {
        name: [row["statistics"] for row in rows if row.get("statistics")]
        for name, rows in series.items()
    }
    if not any(drawn.values()):
        return None
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        for place, (name, grid) in enumerate(drawn.items()):
            x, y = (
                [row[metric]["mean"] for row in grid]
                for metric in ("retain_prob", "forget_prob")
            )
            color = figures.PALETTE[place % len(figures.PALETTE)]
            axes.plot(x, y, color=color, alpha=0.5, linewidth=1)
            sizes = [20 + 25 * i for i in range(len(grid))]
            marker = figures.MARKERS[place % len(figures.MARKERS)]
            axes.scatter(x, y, s=sizes, color=color, marker=marker, label=name)
        axes.set(xlabel="retain probability ↑", ylabel="forget probability")
        axes.legend(loc="best")
    return figure


def difficulty_figure(points: Rows) -> Figure | None:
    """Utility loss of each group of forget rows over its difficulty, by method."""
    methods = list(dict.fromkeys(p["method"] for p in points))
    if not methods:
        return None
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(figures.WIDTH, 3.2), layout="constrained")
        panels = figure.subplots(1, len(methods), squeeze=False, sharey=True).flat
        for place, (axes, method) in enumerate(zip(panels, methods, strict=True)):
            color = figures.PALETTE[place % len(figures.PALETTE)]
            seeds: dict[int, list] = {}
            for p in points:
                if p["method"] == method:
                    at = (p["difficulty"], p["utility_loss"])
                    seeds.setdefault(p["seed"], []).append(at)
            for own in seeds.values():
                x, y = zip(*own, strict=True)
                axes.plot(x, y, "o-", color=color, linewidth=0.8, markersize=4)
            axes.axhline(0, color=figures.INK, linewidth=0.8)
            axes.set_title(method.replace("_", " "))
            axes.set_xlabel("difficulty: −NLL before")
        figure.axes[0].set_ylabel("drop of retain probability")
    return figure
