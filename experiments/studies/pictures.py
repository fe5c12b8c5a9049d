"""Figures of the costs and of how they grow."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.report.figures import PALETTE, STYLE
from experiments.stages.files import write_with

# In a file of its own there is no page to take ink and grid from.
OWN = {"text.color": "#111827", "axes.labelcolor": "#111827"}
OWN |= {"xtick.color": "#111827", "ytick.color": "#111827"}
OWN |= {"axes.edgecolor": "#9ca3af", "grid.color": "#e5e7eb"}


def costs(models: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Bars of time, a dot for what is counted: multiples of each part's first."""
    panels = [
        (f"{model}: {part}", *_multiples(part, values))
        for model, parts in models.items()
        for part, values in parts.items()
    ]
    heights = [len(names) + 2 for _, names, *_ in panels]
    with matplotlib.rc_context(STYLE | OWN):
        figure = Figure(figsize=(9, 0.2 * sum(heights) + 0.6), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
        for axes, (title, names, times, counted) in zip(grid.flat, panels, strict=True):
            places = np.arange(len(names))
            axes.barh(places, times, color=PALETTE[0], height=0.6, label="time")
            if counted:
                style = {"color": PALETTE[1], "marker": "D", "linestyle": ""}
                axes.plot(counted, places, markersize=4, label="counted", **style)
                axes.legend(loc="lower right")
            axes.set_yticks(places, names)
            axes.invert_yaxis()
            axes.set_title(title)
            axes.set_xlabel("milliseconds" if not counted else "gradient ascents")
    return figure


def _multiples(part: str, values: Mapping[str, Any]) -> tuple[list, list, list]:
    """Names, times and counts; of PyTorch and ours beside it milliseconds."""
    if part == "torch":
        times = values["ours"] | values["theirs"]
        return list(times), [1e3 * t for t in times.values()], []
    known = {name: value for name, value in values.items() if value is not None}
    unit = next(iter(known.values()))["seconds"]
    times = [value["seconds"] / unit for value in known.values()]
    return list(known), times, [value["counted"] for value in known.values()]


def growth(found: Mapping[str, Any]) -> Figure:
    """Time over each axis on two log scales, with its fitted line."""
    with matplotlib.rc_context(STYLE | OWN):
        columns = min(3, len(found))
        rows = -(-len(found) // columns)
        figure = Figure(figsize=(3.4 * columns, 3 * rows), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (name, values) in zip(panels, found.items(), strict=False):
            x, y = np.array(values["sizes"]), np.array(values["seconds"])
            line = np.exp(values["intercept"]) * x ** values["exponent"]
            axes.plot(x, 1e3 * y, "o", color=PALETTE[0])
            axes.plot(x, 1e3 * line, color=PALETTE[1], linewidth=1.2)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(x, [f"{size:.3g}" for size in x])
            axes.set_xticks([], minor=True)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            error = values["standard_error"]
            axes.set_title(f"{name}: {values['exponent']:.2f} ± {error:.2f}")
            axes.set_xlabel(values["unit"])
            axes.set_ylabel("milliseconds")
        for axes in panels[len(found) :]:
            axes.remove()
    return figure


def write(beside: pathlib.Path, figure: Figure) -> None:
    """Writes the figure beside a JSON file, as .svg."""
    style = {key: STYLE[key] for key in ("svg.fonttype", "svg.hashsalt")}
    style["svg.fonttype"] = "path"  # the same wherever it is looked at
    with matplotlib.rc_context(style):
        write_with(
            beside.with_suffix(".svg"),
            lambda partial: figure.savefig(
                partial, format="svg", facecolor="white", metadata={"Date": None}
            ),
        )
