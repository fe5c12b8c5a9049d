"""What all figures share: colours, style, and matplotlib's figures inside a page.

`shown` draws the page of a report by itself. `to_svg` makes a figure part of a page:
text and lines take the page's own colours, light or dark.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report import glossary
from experiments.report.summary import mean

Rows = Sequence[Mapping[str, Any]]

PALETTE = """
#3b82f6 #ea7a1d #12a150 #d0479f #8b6ee6 #b38f00 #e0483e #0fa3b1
#7a8fa6 #a3683a #6f9e1f #c77dbb #5661c9 #d1a01f #b0566b #3f9c85
""".split()
MARKERS = "osD^vPXh"
WIDTH = 10.0  # inches; the page scales it
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


def method_colors(rows: Rows) -> dict[str, str]:
    """Colour of every method, the same in all runs and figures of a page."""
    names = dict.fromkeys(row["method"] for row in rows if row["role"] == "unlearned")
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def colors(rows: Rows) -> dict[str, str]:
    """Colour of every label: methods from the palette, references neutral."""
    palette = method_colors(rows)
    return {
        glossary.method_label(row): palette[row["method"]]
        for row in rows
        if row["role"] == "unlearned"
    }


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
