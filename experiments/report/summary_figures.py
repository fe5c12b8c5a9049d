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
    short,
)
from experiments.report.gaps import FORGET_GAP
from experiments.report.ranking import front_of, utility_of
from experiments.report.summary import half_width, mean, present

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
    names = present(summary)
    found = (glossary.first_present([n], names) for n in DISTANCES)
    ys = [name for name in found if name is not None]
    x = utility_of([row for row in summary if row["role"] == "unlearned"])
    if x is None or not ys:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        palette = colors(summary)
        for axes, name in zip(axes_grid(figure, 1, len(ys)), ys, strict=True):
            _plane(axes, models, summary, name, x, palette)
        handles = {
            glossary.method_label(row): Line2D([], [], **_point_style(row, palette))
            for row in summary
        }
        handles[FRONT] = Line2D([], [], color=INK, alpha=0.5, linewidth=1)
        legend(figure, handles)
    return figure


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
        at, bar = list(map(mean, stats)), list(map(half_width, stats))
        if at[0] is not None and at[1] is not None:
            style = _point_style(row, palette)
            axes.errorbar(
                at[0], at[1], bar[1], bar[0], **style, capsize=2, elinewidth=1
            )
    best = front_of(summary, x, y)
    points = sorted(
        [row["metrics"][name]["mean"] for name in (x, y)]
        for row in summary
        if row["role"] == "unlearned" and best.get((row.get("run"), row["method"]))
    )
    if points:
        axes.plot(
            *zip(*points, strict=True),
            color=INK,
            alpha=0.5,
            linewidth=1,
            zorder=2,
            gid="front",
        )
    x_label, y_label = (f"{m.label} {m.sign}" for m in map(glossary.metric, (x, y)))
    axes.set(xlabel=x_label, ylabel=y_label)


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


def bar_figure(summary: Rows, names: Sequence[str] | None = None) -> Figure | None:
    """A panel per metric with a bar per method; the dashed line is the reference, a
    dotted one chance."""
    measured = glossary.ordered(present(summary))
    if names is None:
        names = [n for n in measured if not glossary.metric(n).minor][:MOST_BARS]
    names = [n for n in names if n in measured]
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
            name = names[place]
            entry = glossary.metric(name)
            stats = [row["metrics"].get(name) for row in summary]
            goal = level_of(summary, [name], "retrained")
            guess = level_of(summary, [entry.chance], "target")
            bars(axes, stats, fill, f"{entry.label} {entry.sign}", goal, guess)
            first = place % BARS_IN_ROW == 0
            axes.set_yticks(range(len(labels)), labels if first else [""] * len(labels))
    return figure


def bars(
    axes: Axes,
    stats: Sequence[Mapping[str, Any] | None],
    fill: Sequence[str],
    title: str,
    level: float | None = None,
    chance: float | None = None,
) -> None:
    """A panel with a bar per entry, the first on top; dashed the level, dotted what is
    so by chance."""
    for place, (stat, color) in enumerate(zip(stats, fill, strict=True)):
        if stat is None or stat["mean"] is None:
            continue
        axes.barh(place, stat["mean"], color=color, height=0.72)
        if half := half_width(stat):
            axes.errorbar(
                stat["mean"], place, xerr=half, color=INK, capsize=2, elinewidth=1
            )
    if level is not None:
        axes.axvline(level, color=INK, linewidth=1, linestyle="--", gid="reference")
    if chance is not None:
        axes.axvline(chance, color=INK, linewidth=1, linestyle=":", gid="chance")
    axes.set_title(short(title), fontsize=8.5, loc="left")
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(stats) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.tick_params(axis="y", length=0)
