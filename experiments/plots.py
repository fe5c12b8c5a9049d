"""Figures of a report: how the runs went, and where they ended.

Every function takes models or summary rows as `experiments.report` defines them and
returns a matplotlib figure, or None where there is nothing to draw. `to_svg` makes
them part of a page: text and lines take the page's own colours, light or dark.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from experiments import glossary
from experiments.summary import half_width

Rows = Sequence[Mapping[str, Any]]

PALETTE = (
    "#3b82f6",
    "#ea7a1d",
    "#12a150",
    "#d0479f",
    "#8b6ee6",
    "#b38f00",
    "#e0483e",
    "#0fa3b1",
)
MARKERS = "osD^vPXh"
WIDTH = 10.0  # inches; the page scales it
# Line style and gid of a role's level in a panel.
_LEVELS = {"retrained": ("--", "reference"), "target": (":", "target")}
BARS_IN_ROW, MOST_BARS = 4, 24
SMOOTHED = 40  # a minibatch curve with as many points gets its running mean
# Stand for the page's text and grid colour until `to_svg` puts those in.
INK, _GRID = "#0a0b0c", "#0d0e0f"
STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "ofmu_jax",  # the same figure gives the same file
    "text.parse_math": False,  # a "$" in a name is a "$"
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def colors(rows: Rows) -> dict[str, str]:
    """Colour of every label: methods from the palette, references neutral."""
    labels = dict.fromkeys(
        glossary.method_label(row) for row in rows if row["role"] == "unlearned"
    )
    return {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(labels)}


def trajectory_figure(models: Rows, summary: Rows) -> Figure | None:
    """Forget and retain probability at the checks, over gradient evaluations.

    One line per run and panel; dashed the retrained reference, dotted the target.
    """
    panels = []
    for part, names in (("forget", glossary.FORGET), ("retain", glossary.RETAIN)):
        for key in (f"eval_{part}_prob", f"eval_{part}_accuracy"):
            if _has(models, key):
                unit = key.rpartition("_")[2]
                same = [n for n in names if "heldout" not in n and unit in n.lower()]
                levels = {r: _level(summary, same, r) for r in ("retrained", "target")}
                label = f"{part} {'probability' if unit == 'prob' else unit}"
                panels.append((key, label, levels))
                break
    return _curves(models, panels, marker=True)


def loss_figure(models: Rows) -> Figure | None:
    """Forget and retain loss on the minibatches; one line per run and panel."""
    panels = [
        (key, key.replace("_", " "), {})
        for key in ("forget_loss", "retain_loss")
        if _has(models, key)
    ]
    return _curves(models, panels)


def cosine_figure(models: Rows) -> Figure | None:
    """Cosine of the forget and the retain gradient; one line per run."""
    if not _has(models, "cosine"):
        return None
    figure = _curves(models, [("cosine", "cosine of the gradients", {})])
    assert figure is not None
    axes = figure.axes[0]
    axes.axhline(0.0, color=INK, linewidth=0.8, gid="zero")
    return figure


def penalty_figure(models: Rows) -> Figure | None:
    """‖∇Φ‖ on a log scale beside its weight ρ; one line per run and panel."""
    if not _has(models, "phi_grad_norm"):
        return None
    panels = [("phi_grad_norm", "‖∇Φ‖", {})]
    if _has(models, "rho"):
        panels.append(("rho", "penalty weight ρ", {}))
    figure = _curves(models, panels)
    assert figure is not None
    for axes in figure.axes:
        # A log scale without a positive value has no limits.
        if any(np.any(np.asarray(line.get_ydata()) > 0) for line in axes.lines):
            _log_scale(axes, "mask")
    return figure


def tradeoff_figure(models: Rows, summary: Rows) -> Figure | None:
    """What was forgotten against what was kept, one point per method.

    Left the forget probability, right the distance from the retrained model's answers
    (or its p-value); the target is where a method starts, the retrained model its goal.
    """
    present = _present(summary)
    x = glossary.first_present(("model_utility", "test_accuracy"), present)
    x = x or glossary.first_present(glossary.RETAIN, present)
    left = glossary.first_present(glossary.FORGET, present)
    right = glossary.first_present(("forget_quality_ks", "forget_quality"), present)
    ys = [y for y in (left, right) if y is not None]
    if x is None or not ys:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        palette = colors(summary)
        for axes, y in zip(_axes(figure, 1, len(ys)), ys, strict=True):
            _plane(axes, models, summary, x, y, palette)
        _legend(figure, _point_handles(summary, palette))
    return figure


def bar_figure(summary: Rows, names: Sequence[str] | None = None) -> Figure | None:
    """A panel per metric with a bar per method; the dashed line is the reference."""
    present = _present(summary)
    if names is None:
        names = [n for n in present if not glossary.metric(n).minor][:MOST_BARS]
    names = [n for n in names if n in present]
    if not names:
        return None
    rows = -(-len(names) // BARS_IN_ROW)
    height = rows * (0.7 + 0.24 * len(summary)) + 0.2
    labels = [_short(glossary.method_label(row)) for row in summary]
    palette = colors(summary)
    fill = [palette.get(glossary.method_label(row), "#8a919c") for row in summary]
    with matplotlib.rc_context(STYLE):
        engine = ConstrainedLayoutEngine(h_pad=0.09)  # room for the panels' titles
        figure = Figure(figsize=(WIDTH, height), layout=engine)
        panels = _axes(figure, rows, BARS_IN_ROW)
        for place, axes in enumerate(panels):
            if place >= len(names):
                axes.set_axis_off()
                continue
            _bars(axes, summary, names[place], fill)
            first = place % BARS_IN_ROW == 0
            axes.set_yticks(range(len(labels)), labels if first else [""] * len(labels))
            axes.invert_yaxis()
    return figure


def to_svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element for an HTML page, without any outside reference.

    Args:
      figure: what to draw.
      label: what a screen reader says; it must be HTML-escaped already.
    """
    with matplotlib.rc_context(STYLE):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Only ids that something points to, and each figure's its own: a page may have
    # an id but once.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    prefix = re.sub(r"\W+", "-", label.lower())[:24]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace(INK, "currentColor").replace(_GRID, "var(--grid)")
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None  # matplotlib writes one
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{label}">{rest}'


def _curves(
    models: Rows,
    panels: Sequence[tuple[str, str, Mapping[str, float | None]]],
    marker: bool = False,
) -> Figure | None:
    """A panel per (key, label, {role: level}) with a line per unlearned run.

    Long curves without ``marker`` (but ρ, a schedule) are their running mean, over a
    faint raw line whose gid is "raw".
    """
    if not panels:
        return None
    palette = colors(models)
    handles: dict[str, Line2D] = {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
        for axes, (key, label, levels) in zip(
            _axes(figure, 1, len(panels)), panels, strict=True
        ):
            for model in models:
                name = glossary.method_label(model)
                points = _points(model, key)
                if name not in palette or not points:
                    continue
                x, y = zip(*points, strict=True)
                noisy = not marker and key != "rho" and len(points) >= SMOOTHED
                if noisy:
                    faint = {"linewidth": 0.6, "alpha": 0.25, "gid": "raw"}
                    axes.plot(x, y, color=palette[name], **faint)
                (line,) = axes.plot(
                    x,
                    _smooth(y) if noisy else y,
                    color=palette[name],
                    linewidth=1.5,
                    alpha=0.9,
                    marker="o" if marker or len(points) == 1 else None,
                    markersize=2.5,
                )
                handles.setdefault(name, line)
            for role, level in levels.items():
                if level is None:
                    continue
                style, gid = _LEVELS[role]
                line = axes.axhline(
                    level, color=INK, linewidth=1.1, linestyle=style, gid=gid
                )
                handles.setdefault(f"{role.capitalize()}, at its evaluation", line)
            axes.set_title(label)
            axes.set_xlabel("gradient evaluations")
        _legend(figure, handles)
    return figure


def _log_scale(axes: Axes, nonpositive: Literal["clip", "mask"]) -> None:
    """A log scale whose ticks are plain text: math text is off in a page."""
    axes.set_yscale("log", nonpositive=nonpositive)
    axes.yaxis.set_major_formatter(_PlainLog())
    axes.yaxis.set_minor_formatter(_PlainLog(minor_thresholds=(1, 0.4)))


class _PlainLog(ticker.LogFormatter):
    """Labels the ticks that its base would, as plain numbers."""

    def __call__(self, x, pos=None):
        return f"{x:g}" if super().__call__(x, pos) else ""


def _smooth(values: Sequence[float]) -> np.ndarray:
    """Centred running mean over a twentieth of the values; shorter at the ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _plane(
    axes: Axes,
    models: Rows,
    summary: Rows,
    x: str,
    y: str,
    palette: Mapping[str, str],
) -> None:
    """One trade-off plane: a faint dot per run, a marker with error bars per method."""
    quality = glossary.canonical(y) in ("forget_quality", "forget_quality_ks")
    for model in models:
        at = [model["metrics"].get(name) for name in (x, y)]
        name = glossary.method_label(model)
        if name in palette and None not in at:
            axes.plot(*at, ".", color=palette[name], alpha=0.45, gid="run")
    for row in summary:
        stats = [row["metrics"].get(name) for name in (x, y)]
        if quality and row["role"] == "retrained":
            # The distance of a model's answers from themselves: no measurement.
            same = 1.0 if glossary.canonical(y) == "forget_quality" else 0.0
            stats[1] = {"mean": same, "low": None, "high": None}
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
    axes.set_xlabel(f"{glossary.metric(x).label} {glossary.metric(x).sign}")
    axes.set_title(f"{glossary.metric(y).label} {glossary.metric(y).sign}")
    if glossary.canonical(y) == "forget_quality":
        _log_scale(axes, "clip")


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
    goal = _level(summary, [name], "retrained")
    if goal is not None:
        axes.axvline(goal, color=INK, linewidth=1, linestyle="--", gid="reference")
    entry = glossary.metric(name)
    axes.set_title(_short(f"{entry.label} {entry.sign}"), fontsize=8.5, loc="left")
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.6, len(summary) - 0.4)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.tick_params(axis="y", length=0)


def _axes(figure: Figure, rows: int, columns: int) -> list[Axes]:
    return list(figure.subplots(rows, columns, squeeze=False).flat)


def _legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    if handles:
        figure.legend(
            list(handles.values()),
            [_short(label) for label in handles],
            loc="outside lower center",
            ncols=min(4, len(handles)),
        )


def _points(model: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    rows = model.get("trajectory") or []
    return [
        (row["gradient_evaluations"], row[key])
        for row in rows
        if row.get(key) is not None and row["gradient_evaluations"] is not None
    ]


def _has(models: Rows, key: str) -> bool:
    return any(m["role"] == "unlearned" and _points(m, key) for m in models)


def _present(summary: Rows) -> list[str]:
    """Names of the metrics that have a value in some row."""
    return glossary.ordered(
        name
        for row in summary
        for name, stat in row["metrics"].items()
        if stat["mean"] is not None
    )


def _level(summary: Rows, names: Sequence[str], role: str) -> float | None:
    """Mean of the one model of a role; None without one, or with several runs."""
    rows = [row for row in summary if row["role"] == role]
    if len(rows) != 1:
        return None
    name = glossary.first_present(
        [glossary.canonical(n) for n in names], rows[0]["metrics"]
    )
    return None if name is None else rows[0]["metrics"][name]["mean"]


def _short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
