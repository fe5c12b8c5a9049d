"""What more gradients buy: methods over runs that differ in their budget."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import glossary
from experiments.report.figures import Rows, method_colors
from experiments.report.gaps import AGGREGATE
from experiments.report.shown.gauges import interval_of
from experiments.report.shown.panels import Dot, Line, Panel
from experiments.report.summary import mean, number

Row = Mapping[str, Any]
SPENT = ("gradient evaluations", "seconds without compiling")


def budgets(summary: Rows) -> list[Panel]:
    """The overall gap to the retrained model over what was spent, a line per method.

    Args:
      summary: of runs that unlearn the same rows, with the name of its run in every
        row (`experiments.report.write.merge_reports`).

    Returns:
      Nothing where no method has two budgets.
    """
    curves = {name: rows for name, rows in _methods(summary).items() if _varies(rows)}
    palette, entry = method_colors(summary), glossary.metric(AGGREGATE)
    panels = []
    for place, spent in enumerate(SPENT) if curves else ():
        lines, dots = [], []
        for name, rows in curves.items():
            label = glossary.method_label({"role": "unlearned", "method": name})
            own = [_dot(row, place, label, palette[name]) for row in rows]
            own.sort(key=lambda dot: dot.at)
            dots += own
            points = [dot.at for dot in own]
            lines.append(Line(label, palette[name], points, name, marked=True))
        ends = {"x_range": (0.0, math.inf), "y_range": entry.range, "x_log": True}
        title = f"{entry.label} {entry.sign}"
        panels.append(Panel(title, spent, "", lines, dots, **ends))
    return panels


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


def _dot(row: Row, place: int, label: str, colour: str) -> Dot:
    stat, spent = row["metrics"][AGGREGATE], _spent(row)[place]
    bar = interval_of(stat, glossary.metric(AGGREGATE).range)
    tip = f"{label}, {row['run']}: {number(stat['mean'])}"
    at = spent, stat["mean"]
    return Dot("", colour, at, tip, row["method"], "run", (None, bar))
