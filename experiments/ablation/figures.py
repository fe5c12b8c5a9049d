"""Figures of an ablation; `report.figures.to_svg` makes them part of a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from experiments.report import figures
from experiments.report.summary_figures import bars

Rows = Sequence[Mapping[str, Any]]
# Metrics of a variant's bars, with their labels.
BARS = {
    "forget_prob": "forget probability",
    "retain_prob": "retain probability ↑",
    "cosine": "mean cosine",
    "gradient_evaluations": "gradient evaluations",
}


def group_figure(table: Rows, before: Mapping[str, float | None]) -> Figure | None:
    """A bar per variant and a panel per metric; dashed the target before unlearning.

    Args:
      table: rows with ``label`` and ``statistics``; those not run have none of these.
      before: metric -> mean of the target.
    """
    table = [row for row in table if row.get("statistics")]
    if not table:
        return None
    with matplotlib.rc_context(figures.STYLE):
        height = 0.8 + 0.27 * len(table)
        figure = Figure(figsize=(figures.WIDTH, height), layout="constrained")
        fill = [figures.PALETTE[0 if row["base"] else 1] for row in table]
        labels = [row["label"] for row in table]
        for place, (axes, (name, label)) in enumerate(
            zip(figures.axes_grid(figure, 1, len(BARS)), BARS.items(), strict=True)
        ):
            stats = [row["statistics"].get(name) for row in table]
            bars(axes, stats, fill, label, before.get(name))
            axes.set_yticks(range(len(table)), [""] * len(table) if place else labels)
    return figure


def cosine_figure(table: Rows, rows: Rows) -> Figure | None:
    """The cosine along the runs of a group's variants, one line per seed."""
    labels = {row["key"]: row["label"] for row in table}
    drawn = [row for row in rows if row["method"] in labels]
    return figures.cosine_figure([{**r, "method": labels[r["method"]]} for r in drawn])


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
