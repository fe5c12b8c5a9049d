"""Bars of a report's summary, a panel a metric."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from experiments.report import glossary
from experiments.report.figures import (
    INK,
    STYLE,
    WIDTH,
    Rows,
    axes_grid,
    colors,
    level_of,
    short,
)
from experiments.report.shown.gauges import interval_of
from experiments.report.summary import present

BARS_IN_ROW, MOST_BARS = 4, 24


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
            title = f"{entry.label} {entry.sign}"
            bars(axes, stats, fill, title, goal, guess, entry.range)
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
    ends: tuple[float, float] = (-math.inf, math.inf),
) -> None:
    """A panel with a bar per entry, the first on top; dashed the level, dotted what is
    so by chance; nothing beyond the ends of what the quantity can be."""
    for place, (stat, color) in enumerate(zip(stats, fill, strict=True)):
        if stat is None or stat["mean"] is None:
            continue
        axes.barh(place, stat["mean"], color=color, height=0.72)
        if interval := interval_of(stat, ends):
            low, high = interval
            error = [[max(stat["mean"] - low, 0)], [max(high - stat["mean"], 0)]]
            style = {"color": INK, "capsize": 2, "elinewidth": 1}
            axes.errorbar(stat["mean"], place, xerr=error, **style)
    if level is not None:
        axes.axvline(level, color=INK, linewidth=1, linestyle="--", gid="reference")
    if chance is not None:
        axes.axvline(chance, color=INK, linewidth=1, linestyle=":", gid="chance")
    axes.set_title(short(title), fontsize=8.5, loc="left")
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(stats) - 0.4, -0.6)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, ends[0]), min(high, ends[1]))
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.tick_params(axis="y", length=0)
