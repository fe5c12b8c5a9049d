"""Panels of lines and dots as SVG that a page styles, a script reads, and no script is
needed for. They know coordinates, colours and words, and nothing of reports."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import ticker

Point = tuple[float, float]
Span = tuple[float, float]
WHOLE = (-math.inf, math.inf)
WIDTH, HEIGHT = 420.0, 290.0  # units of the SVG; a page scales it
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 12.0, 38.0
ROOM = 0.05  # of the data's extent, between them and the frame
NEAR = 0.15  # of it
LETTER, LINE = 6.4, 13.0  # size of a label's letter
MANY = 12  # dots with labels of their own, at most


class Line(NamedTuple):
    """A curve; gaps are NaN."""

    label: str
    colour: str
    points: Sequence[Point]
    group: str = ""  # which toggle it obeys
    style: str = ""  # of dashes: "", "dashed" or "dotted"
    marked: bool = False  # a dot at every point
    faint: bool = False  # beneath another line, without words


class Dot(NamedTuple):
    """A point; ``bars`` are its intervals on both axes, within what can be."""

    label: str
    colour: str
    at: Point
    tip: str
    group: str = ""
    shape: str = "dot"  # dot, run, target, retrained, or away: an arrow to the right
    bars: tuple[Span | None, Span | None] = (None, None)


class Level(NamedTuple):
    """A horizontal line across the panel."""

    label: str
    at: float
    style: str = "dashed"


class Panel(NamedTuple):
    """What one panel shows; `drawn` makes it plain values for a template."""

    title: str
    x: str
    y: str
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    levels: Sequence[Level] = ()
    front: Sequence[Point] = ()  # joined by a thin line
    x_range: Span = WHOLE  # what the quantities can be
    y_range: Span = WHOLE
    x_log: bool = False
    y_log: bool = False


class Axis(NamedTuple):
    """A scale from values to units of the SVG."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def shows(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.log)

    @property
    def ticks(self) -> list[float]:
        locator: Any = ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        if self.log:
            wide = math.log10(self.high / self.low) >= 2
            locator = ticker.LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0))
        found = self._within(locator)
        if len(found) < 2:  # of a log scale within 1, 2 and 5
            found = self._within(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        return found

    def _within(self, locator: Any) -> list[float]:
        slack = 1e-9 * (self.high - self.low)
        found = locator.tick_values(self.low, self.high)
        return [float(t) for t in found if self.low - slack <= t <= self.high + slack]


def axis_of(
    values: Sequence[float], start: float, end: float, ends: Span, log: bool = False
) -> Axis:
    """The scale that shows all values, with some room, and nothing that cannot be.

    >>> axis = axis_of([0.0, 0.98], 0, 100, (0.0, 1.0))
    >>> axis.low, axis.high, axis(0.5)
    (0.0, 1.0, 50.0)
    """
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if log and not known:
        return axis_of(values, start, end, ends)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if log:
        more = max(math.log(high / low) * ROOM, 0.1)
        return Axis(low * math.exp(-more), high * math.exp(more), start, end, True)
    extent = high - low
    more = extent * ROOM or abs(high) * 0.1 or 1.0
    # An end that is near is shown, so that its tick is.
    low = ends[0] if low - ends[0] <= NEAR * extent else max(low - more, ends[0])
    high = ends[1] if ends[1] - high <= NEAR * extent else min(high + more, ends[1])
    return Axis(low, high, start, end)


def drawn(panel: Panel) -> dict[str, Any]:
    """A panel as values for ``panel.html.j2``: texts, and places in units."""
    xs, ys = zip(*_points(panel), strict=True) if _points(panel) else ((), ())
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x = axis_of(xs, LEFT, right, panel.x_range, panel.x_log)
    ys = (*ys, *(level.at for level in panel.levels))
    y = axis_of(ys, bottom, TOP, panel.y_range, panel.y_log)
    dots = [_dot(dot, x, y) for dot in panel.dots if _seen(dot.at, x, y)]
    levels = [level for level in panel.levels if y.shows(level.at)]
    return {
        "title": panel.title,
        "x": panel.x,
        "y": panel.y,
        "x_ticks": [(x(t), f"{t:,g}") for t in x.ticks],
        "y_ticks": [(y(t), f"{t:g}") for t in y.ticks],
        "lines": [_line(line, x, y) for line in panel.lines],
        "levels": [(y(level.at), level.label, level.style) for level in levels],
        "front": _path([p for p in panel.front if _seen(p, x, y)], x, y),
        "dots": dots,
        "labels": _labels(dots, right),
        "scale": json.dumps({"x": list(x), "y": list(y)}),
    }


def _points(panel: Panel) -> list[Point]:
    """All that must be seen: lines, dots, ends of their bars."""
    found = [p for line in panel.lines for p in line.points]
    for dot in panel.dots:
        (x, y), (across, up) = dot.at, dot.bars
        found += [(x, y), *((e, y) for e in across or ()), *((x, e) for e in up or ())]
    return found


def _seen(point: Point, x: Axis, y: Axis) -> bool:
    return x.shows(point[0]) and y.shows(point[1])


def _line(line: Line, x: Axis, y: Axis) -> dict[str, Any]:
    """Its parts between gaps, as points of polylines."""
    parts: list[list[Point]] = [[]]
    for point in line.points:
        if _seen(point, x, y):
            parts[-1].append(point)
        elif parts[-1]:
            parts.append([])
    alone = sum(map(len, parts)) == 1
    paths = [_path(part, x, y) for part in parts if part]
    return {**line._asdict(), "paths": paths, "marked": line.marked or alone}


def _path(points: Sequence[Point], x: Axis, y: Axis) -> str:
    return " ".join(f"{x(a):g},{y(b):g}" for a, b in points)


def _dot(dot: Dot, x: Axis, y: Axis) -> dict[str, Any]:
    across, up = dot.bars
    return {
        **dot._asdict(),
        "x": x(dot.at[0]),
        "y": y(dot.at[1]),
        "across": None if across is None else [x(end) for end in across],
        "up": None if up is None else [y(end) for end in up],
    }


def _labels(dots: Sequence[dict[str, Any]], right: float) -> list[dict[str, Any]]:
    """Names beside the dots that are no single runs, moved until none overlap."""
    named = [dot for dot in dots if dot["shape"] != "run"]
    if len(named) > MANY:
        return []
    found: list[dict[str, Any]] = []
    for dot in sorted(named, key=lambda d: d["y"]):
        width = LETTER * (len(dot["label"]) + 2)
        after = dot["x"] + 9 + width <= right
        low = dot["x"] + 9 if after else dot["x"] - 9 - width
        y = dot["y"] + 3.5
        for other in found:  # from the top down
            apart = low > other["high"] or low + width < other["low"]
            if not apart and y - other["y"] < LINE:
                y = other["y"] + LINE
        place = {"low": low, "high": low + width, "y": y, "group": dot["group"]}
        # One that is not beside its dot any more has the dot's colour.
        place |= {"colour": dot["colour"], "moved": y != dot["y"] + 3.5}
        anchor = "start" if after else "end"
        at = dot["x"] + (9 if after else -9)
        found.append({**place, "text": dot["label"], "x": at, "anchor": anchor})
    return found


def smooth(values: Sequence[float]) -> np.ndarray:
    """Centred running mean over a twentieth of the values; shorter at the ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
