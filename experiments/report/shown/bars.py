"""Bars, a panel a metric: a row a model or variant, as places in percent of a track."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.report import glossary
from experiments.report.figures import Rows, level_of
from experiments.report.shown.gauges import interval_of
from experiments.report.shown.panels import WHOLE, Span, axis_of
from experiments.report.summary import number, present

MOST_PANELS = 24
NEUTRAL = "#8a919c"


class Bar(NamedTuple):
    """A mean with what is known of its spread; ``stat`` is of a summary, or None."""

    label: str
    colour: str
    stat: Mapping[str, Any] | None
    group: str = ""


def panel(
    title: str,
    rows: Sequence[Bar],
    *,
    tip: str = "",
    level: float | None = None,
    mark: str = "Retrained",
    chance: float | None = None,
    ends: Span = WHOLE,
) -> dict[str, Any]:
    """A bar a row from 0 to its mean, on a scale within what the quantity can be.

    Args:
      level: marked in every row, with the words ``mark``.
      chance: marked too: what is so by guessing.
    """
    known = [bar.stat for bar in rows if bar.stat and bar.stat["mean"] is not None]
    spans = [interval_of(stat, ends) or (stat["mean"],) for stat in known]
    marks = [mark for mark in (level, chance) if mark is not None]
    values = [0.0, *marks, *(end for span in spans for end in span)]
    axis = axis_of(values, 0.0, 100.0, ends)
    if min(values) >= 0:
        axis = axis._replace(low=0.0)
    return {
        "title": title,
        "tip": tip,
        "mark": mark,
        "rows": [_row(bar, axis, ends) for bar in rows],
        "level": None if level is None else (axis(level), number(level)),
        "chance": None if chance is None else (axis(chance), number(chance)),
    }


def _row(bar: Bar, axis: Any, ends: Span) -> dict[str, Any]:
    row = {"label": bar.label, "colour": bar.colour, "group": bar.group}
    value = bar.stat["mean"] if bar.stat else None
    if value is None or not math.isfinite(value):
        return row | {"text": number(None), "bar": None, "interval": None}
    interval = interval_of(bar.stat or {}, ends)
    return row | {
        "text": number(value),
        "bar": _span(axis(0.0), axis(value)),
        "interval": interval and _span(*map(axis, interval)),
    }


def _span(a: float, b: float) -> tuple[float, float]:
    """Start and width."""
    return min(a, b), round(abs(a - b), 1)


def of_summary(
    summary: Rows, palette: Mapping[str, str], names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """A panel per metric with a bar per model; marked are reference and chance."""
    measured = glossary.ordered(present(summary))
    if names is None:
        names = [n for n in measured if not glossary.metric(n).minor][:MOST_PANELS]
    found = []
    for name in (name for name in names if name in measured):
        entry = glossary.metric(name)
        rows = [
            Bar(
                label := glossary.method_label(row),
                palette.get(label, NEUTRAL),
                row["metrics"].get(name),
                row["method"] if row["role"] == "unlearned" else "",
            )
            for row in summary
        ]
        shown = panel(
            f"{entry.label} {entry.sign}",
            rows,
            tip=f"{name}: {entry.text or entry.goal_text}",
            level=level_of(summary, [name], "retrained"),
            chance=level_of(summary, [entry.chance], "target"),
            ends=entry.range,
        )
        found.append(shown)
    return found
