"""What more gradients buy: methods over runs that differ in their budget."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report import glossary
from experiments.report.figures import (
    MARKERS,
    STYLE,
    WIDTH,
    Rows,
    axes_grid,
    colors,
    legend,
)
from experiments.report.gaps import AGGREGATE
from experiments.report.summary import half_width, mean

Row = Mapping[str, Any]
SPENT = ("gradient evaluations", "seconds without compiling")


def budget_figure(summary: Rows) -> Figure | None:
    """The overall gap to the retrained model over what was spent, a line per method.

    Args:
      summary: of runs that unlearn the same rows, with the name of its run in every
        row (`experiments.report.write.merge_reports`).

    Returns:
      None where no method has two budgets.
    """
    curves = {name: rows for name, rows in _methods(summary).items() if _varies(rows)}
    if not curves:
        return None
    labels = [{"role": "unlearned", "method": name} for name in curves]
    palette, handles = colors(labels), {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        for place, axes in enumerate(axes_grid(figure, 1, len(SPENT))):
            for number, (label, rows) in enumerate(
                zip(palette, curves.values(), strict=True)
            ):
                marker = MARKERS[number % len(MARKERS)]
                style = {"color": palette[label], "marker": marker, "markersize": 5}
                handles[label] = _line(axes, rows, place, style)
            _label(axes, SPENT[place])
        legend(figure, handles)
    return figure


def _methods(summary: Rows) -> dict[str, list[Row]]:
    """Method -> its rows in all runs, those that say what was spent and reached."""
    found: dict[str, list[Row]] = {}
    for row in summary:
        gap = mean(row["metrics"].get(AGGREGATE))
        known = gap is not None and all(map(math.isfinite, _spent(row)))
        if row["role"] == "unlearned" and known:
            found.setdefault(row["method"], []).append(row)
    return found


def _spent(row: Row) -> tuple[float, float]:
    """Gradients, and seconds without those of compiling; NaN where it is not known."""
    names = ("gradient_evaluations", "seconds", "compile_seconds")
    gradients, seconds, compiled = (mean(row.get(name)) for name in names)
    unknown = math.nan
    run = unknown if seconds is None else seconds - (compiled or 0.0)
    return unknown if gradients is None else gradients, run


def _varies(rows: Sequence[Row]) -> bool:
    return len({_spent(row)[0] for row in rows}) > 1


def _line(axes: Axes, rows: Sequence[Row], place: int, style: Mapping[str, Any]) -> Any:
    """Means with their intervals in the order of what was spent."""
    ordered = sorted(rows, key=lambda row: _spent(row)[place])
    gaps = [row["metrics"][AGGREGATE] for row in ordered]
    return axes.errorbar(
        [_spent(row)[place] for row in ordered],
        [gap["mean"] for gap in gaps],
        [half_width(gap) or 0.0 for gap in gaps],
        **style,
        linewidth=1.4,
        capsize=2,
        elinewidth=0.8,
    )


def _label(axes: Axes, spent: str) -> None:
    axes.set_xscale("log")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(spent)
    axes.set_ylabel(f"{glossary.metric(AGGREGATE).label} ↓")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
