"""Figures of a report: how the runs went; `summary_figures` has where they ended.

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
from matplotlib.lines import Line2D

from experiments.report import glossary
from experiments.report.summary import mean

Rows = Sequence[Mapping[str, Any]]

PALETTE = "#3b82f6 #ea7a1d #12a150 #d0479f #8b6ee6 #b38f00 #e0483e #0fa3b1".split()
MARKERS = "osD^vPXh"
WIDTH = 10.0  # inches; the page scales it
# Line style and gid of a role's level in a panel.
_LEVELS = {"retrained": ("--", "reference"), "target": (":", "target")}
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
                levels = {
                    r: level_of(summary, same, r) for r in ("retrained", "target")
                }
                label = f"{part} {'probability' if unit == 'prob' else unit}"
                panels.append((key, label, levels))
                break
    return _curves(models, panels, marker=True)


def loss_figure(models: Rows) -> Figure | None:
    """Forget and retain loss on the minibatches; one line per run and panel."""
    labels = {"forget_loss": "forget loss", "retain_loss": "retain loss"}
    return _curves(models, _panels(models, **labels))


def cosine_figure(models: Rows) -> Figure | None:
    """Cosine of the forget and the retain gradient; one line per run."""
    figure = _curves(models, _panels(models, cosine="cosine of the gradients"))
    if figure is not None:
        figure.axes[0].axhline(0.0, color=INK, linewidth=0.8, gid="zero")
    return figure


def penalty_figure(models: Rows) -> Figure | None:
    """‖∇Φ‖, the gap (if Φ has a maximum) and the weight ρ, on log scales; one line per
    run and panel."""
    if not _has(models, "phi_grad_norm"):
        return None
    labels = {"phi_grad_norm": "‖∇Φ‖", "gap": "gap of Φ to its maximum"}
    figure = _curves(models, _panels(models, **labels, rho="penalty weight ρ"))
    assert figure is not None
    for axes in figure.axes:
        # A log scale without a positive value has no limits.
        if any(np.any(np.asarray(line.get_ydata()) > 0) for line in axes.lines):
            log_scale(axes, "mask")
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


def _panels(models: Rows, **labels: str) -> list[tuple[str, str, dict]]:
    """Panels without levels of the keys that some run has."""
    return [(key, label, {}) for key, label in labels.items() if _has(models, key)]


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
            axes_grid(figure, 1, len(panels)), panels, strict=True
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
        legend(figure, handles)
    return figure


def log_scale(
    axes: Axes, nonpositive: Literal["clip", "mask"], upright: bool = True
) -> None:
    """A log scale whose ticks are plain text: math text is off in a page.

    Args:
      upright: of the vertical axis, or else of the other one.
    """
    (axes.set_yscale if upright else axes.set_xscale)("log", nonpositive=nonpositive)
    axis = axes.yaxis if upright else axes.xaxis
    axis.set_major_formatter(_PlainLog())
    axis.set_minor_formatter(_PlainLog(minor_thresholds=(1, 0.4)))


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


def axes_grid(figure: Figure, rows: int, columns: int) -> list[Axes]:
    return list(figure.subplots(rows, columns, squeeze=False).flat)


def legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    if handles:
        figure.legend(
            list(handles.values()),
            [short(label) for label in handles],
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


def level_of(summary: Rows, names: Sequence[str], role: str) -> float | None:
    """Mean of the one model of a role; None without one, or with several runs."""
    rows = [row for row in summary if row["role"] == role]
    if len(rows) != 1:
        return None
    wanted = [glossary.canonical(n) for n in names]
    name = glossary.first_present(wanted, rows[0]["metrics"])
    return mean(rows[0]["metrics"].get(name))


def short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
