"""Figures of a report's summary: trade-offs with their Pareto front, and bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from experiments.report import glossary
from experiments.report.figures import (
    INK,
    MARKERS,
    STYLE,
    WIDTH,
    Rows,
    axes_grid,
    colors,
    legend,
    level_of,
    present_metrics,
    short,
)
from experiments.report.gaps import FORGET_GAP
from experiments.report.ranking import front_of, utility_of
from experiments.report.summary import half_width

BARS_IN_ROW, MOST_BARS = 4, 24
DISTANCES = (FORGET_GAP, "forget_quality_ks")  # 0: like the retrained model
FRONT = "Pareto front of the methods"


def tradeoff_figure(models: Rows, summary: Rows) -> Figure | None:
    """Forgetting against utility, one point with error bars per method.

    To the right the distance of forgetting from the retrained model (of the forget
    probability; in a second panel, the Kolmogorov–Smirnov distance of the truth
    ratios), upwards the utility, so the best place is top left. Faint points are
    single runs, the line joins the methods that no other beats in both.
    """
    ys = _distances(summary)
    x = utility_of([row for row in summary if row["role"] == "unlearned"])
    if x is None or not ys:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        palette = colors(summary)
        for axes, name in zip(axes_grid(figure, 1, len(ys)), ys, strict=True):
            _plane(axes, models, summary, name, x, palette)
        handles = _point_handles(summary, palette)
        handles[FRONT] = Line2D([], [], color=INK, alpha=0.5, linewidth=1)
        legend(figure, handles)
    return figure


def _distances(summary: Rows) -> list[str]:
    """Metrics of the distance from the retrained model, 0 being the best."""
    present = present_metrics(summary)
    names = (glossary.first_present([n], present) for n in DISTANCES)
    return [name for name in names if name is not None]


def _plane(
    axes: Axes,
    models: Rows,
    summary: Rows,
    x: str,
    y: str,
    palette: Mapping[str, str],
) -> None:
    """One plane: a faint dot per run, a marker per method, a line along the front."""
    for model in models:
        at = [model["metrics"].get(name) for name in (x, y)]
        name = glossary.method_label(model)
        if name in palette and None not in at:
            axes.plot(*at, ".", color=palette[name], alpha=0.45, gid="run")
    for row in summary:
        stats = [row["metrics"].get(name) for name in (x, y)]
        if row["role"] == "retrained":
            stats[0] = {"mean": 0.0, "low": None, "high": None}  # from itself
        if any(s is None or s["mean"] is None for s in stats):
            continue
        error = [half_width(s) for s in stats]
        axes.errorbar(
            stats[0]["mean"],
            stats[1]["mean"],
            xerr=error[0],
            yerr=error[1],
            capsize=2,
            elinewidth=1,
            **_point_style(row, palette),
        )
    if front := sorted(_front_points(summary, x, y)):
        at = list(zip(*front, strict=True))
        axes.plot(*at, color=INK, alpha=0.5, linewidth=1, zorder=2, gid="front")
    entries = [glossary.metric(name) for name in (x, y)]
    axes.set_xlabel(f"{entries[0].label} {entries[0].sign}")
    axes.set_ylabel(f"{entries[1].label} {entries[1].sign}")


def _front_points(summary: Rows, x: str, y: str) -> list[tuple[float, float]]:
    """Means of the methods on the front of a plane."""
    front = front_of(summary, x, y)
    return [
        (row["metrics"][x]["mean"], row["metrics"][y]["mean"])
        for row in summary
        if row["role"] == "unlearned" and front.get((row.get("run"), row["method"]))
    ]


def _point_style(row: Mapping[str, Any], palette: Mapping[str, str]) -> dict[str, Any]:
    name = glossary.method_label(row)
    none = {"linestyle": "none"}
    if row["role"] == "retrained":
        return {"color": INK, "marker": "*", "markersize": 14, "zorder": 1} | none
    if row["role"] == "target":
        style = {"marker": "s", "markersize": 7, "markerfacecolor": "none"}
        return {"color": INK, "zorder": 1} | style | none
    marker = MARKERS[list(palette).index(name) % len(MARKERS)]
    style = {"color": palette[name], "marker": marker}
    return {**style, "markersize": 7, "zorder": 3} | none


def _point_handles(summary: Rows, palette: Mapping[str, str]) -> dict[str, Line2D]:
    return {
        glossary.method_label(row): Line2D([], [], **_point_style(row, palette))
        for row in summary
    }


def bar_figure(summary: Rows, names: Sequence[str] | None = None) -> Figure | None:
    """A panel per metric with a bar per method; the dashed line is the reference."""
    present = present_metrics(summary)
    if names is None:
        names = [n for n in present if not glossary.metric(n).minor][:MOST_BARS]
    names = [n for n in names if n in present]
    if not names:
        return None
    rows = -(-len(names) // BARS_IN_ROW)
    height = rows * (0.7 + 0.24 * len(summary)) + 0.2
    labels = [short(glossary.method_label(row)) for row in summary]
    palette = colors(summary)
    fill = [palette.get(glossary.method_label(row), "#8a919c") for row in summary]
    with matplotlib.rc_context(STYLE):
        engine = ConstrainedLayoutEngine(h_pad=0.09)  # room for the panels' titles
        figure = Figure(figsize=(WIDTH, height), layout=engine)
        panels = axes_grid(figure, rows, BARS_IN_ROW)
        for place, axes in enumerate(panels):
            if place >= len(names):
                axes.set_axis_off()
                continue
            _bars(axes, summary, names[place], fill)
            first = place % BARS_IN_ROW == 0
            axes.set_yticks(range(len(labels)), labels if first else [""] * len(labels))
            axes.invert_yaxis()
    return figure


def _bars(axes: Axes, summary: Rows, name: str, fill: Sequence[str]) -> None:
    for place, (row, color) in enumerate(zip(summary, fill, strict=True)):
        stat = row["metrics"].get(name)
        if stat is None or stat["mean"] is None:
            continue
        axes.barh(place, stat["mean"], color=color, height=0.72)
        half = half_width(stat)
        if half:
            axes.errorbar(
                stat["mean"], place, xerr=half, color=INK, capsize=2, elinewidth=1
            )
    goal = level_of(summary, [name], "retrained")
    if goal is not None:
        axes.axvline(goal, color=INK, linewidth=1, linestyle="--", gid="reference")
    entry = glossary.metric(name)
    axes.set_title(short(f"{entry.label} {entry.sign}"), fontsize=8.5, loc="left")
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.6, len(summary) - 0.4)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.tick_params(axis="y", length=0)
