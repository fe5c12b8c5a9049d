"""What a sequence of requests leaves: ``sequence.html``, and tables for the console."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import ticker
from matplotlib.figure import Figure
from rich.table import Table

from experiments.report import glossary
from experiments.report.figures import INK, PALETTE, STYLE, WIDTH, axes_grid, legend
from experiments.report.page import fill, svg
from experiments.report.summary import cell, mean, statistic
from experiments.sequence.scores import KEPT, METRICS, RETRAINED, START
from experiments.shell import console
from experiments.stages.files import write_text

Found = Mapping[str, Any]
Stat = Mapping[str, Any]
TITLES = {
    "probability": "probability of the answer",
    "exact_memorization": "exact memorisation",
    "extraction_strength": "extraction strength",
}
HEADS = ("request", "before", "after its own", "at the end", "retrained")
NAME = "sequence.html"


def methods_of(found: Found) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in found["lineages"]))


def columns_of(found: Found) -> list[str]:
    """Names of the sets: the requests by number, then the rows that stay."""
    return [*(str(n) for n in range(1, len(found["requests"]) + 1)), KEPT]


def matrix(found: Found, method: str, metric: str) -> list[list[Stat]]:
    """Row i, column j: of request j (the last: of what stays) after request i.

    Row 0 is before the first. Means over the seeds that came so far, with Student's
    interval (`report.summary.statistic`).
    """
    lineages = [row for row in found["lineages"] if row["method"] == method]
    states = [[found[START], *row["after"]] for row in lineages]
    longest = max(map(len, states))
    return [
        [
            statistic(after[i][name][metric] for after in states if i < len(after))
            for name in columns_of(found)
        ]
        for i in range(longest)
    ]


def at_a_glance(found: Found, method: str) -> list[list[str]]:
    """A line of texts per request, and one of what stays, under `HEADS`."""
    metric = next(iter(METRICS))
    values = matrix(found, method, metric)
    lines = []
    for j, name in enumerate(columns_of(found)):
        own = j + 1 if name != KEPT else None
        label = "what stays" if name == KEPT else f"{name} {found['requests'][j]}"
        after = cell(values[own][j]) if own and own < len(values) else cell(None)
        known = found.get(RETRAINED)
        goal = cell(statistic([known[name][metric]]) if known else None)
        lines.append([label, cell(values[0][j]), after, cell(values[-1][j]), goal])
    return lines


def write(folder: pathlib.Path, found: Found) -> pathlib.Path:
    """Writes the page and returns its path."""
    path = folder / NAME
    write_text(path, render(found))
    return path


def render(found: Found) -> str:
    """The page; all text is HTML-escaped and nothing is loaded from anywhere."""
    title = lambda name: glossary.method_label({"method": name, "role": "unlearned"})
    return fill(
        "sequence.html.j2",
        report=found,
        heads=HEADS,
        columns=columns_of(found),
        kept=KEPT,
        methods=[
            {
                "label": title(name),
                "glance": at_a_glance(found, name),
                "matrices": [_table(found, name, metric) for metric in METRICS],
                "figure": svg(
                    figure(found, name), f"{title(name)}: after each request"
                ),
            }
            for name in methods_of(found)
        ],
        lineages=[
            {**row, "label": f"{title(row['method'])}, seed {row['seed']}"}
            for row in found["lineages"]
        ],
    )


def _table(found: Found, method: str, metric: str) -> dict[str, Any]:
    """A matrix for the page; cells of requests that were carried out are marked."""
    rows: list[dict[str, Any]] = [
        {
            "label": "before" if i == 0 else f"after {i}",
            "cells": [
                {"text": cell(value), "done": j < i and name != KEPT}
                for j, (name, value) in enumerate(
                    zip(columns_of(found), values, strict=True)
                )
            ],
        }
        for i, values in enumerate(matrix(found, method, metric))
    ]
    if known := found.get(RETRAINED):
        values = (statistic([known[name][metric]]) for name in columns_of(found))
        cells = [{"text": cell(value), "done": False} for value in values]
        rows.append({"label": "retrained", "cells": cells})
    return {"title": TITLES[metric], "rows": rows}


def figure(found: Found, method: str) -> Figure:
    """Probability of each request and of what stays, after each request.

    Dotted until its own turn; dashed the retrained model's, of what stays.
    """
    metric = next(iter(METRICS))
    values, names = matrix(found, method, metric), columns_of(found)
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(WIDTH, 3.5), layout="constrained")
        left, right = axes_grid(made, 1, 2)
        handles: dict[str, Any] = {}
        for j, name in enumerate(names[:-1]):
            colour = PALETTE[j % len(PALETTE)]
            points = list(_points(values, j))
            turn = j + 2  # points up to its own request
            before = {"color": colour, "linestyle": ":", "linewidth": 1}
            left.plot(*zip(*points[:turn], strict=True), **before)
            if since := points[turn - 1 :]:
                style = {"color": colour, "marker": "o", "markersize": 3}
                (line,) = left.plot(*zip(*since, strict=True), **style)
                handles[f"request {name}"] = line
        points = list(_points(values, len(names) - 1))
        right.plot(*zip(*points, strict=True), color=INK, marker="o")
        if known := found.get(RETRAINED):
            right.axhline(known[KEPT][metric], linestyle="--", linewidth=1, color=INK)
        for axes, text in ((left, "requests"), (right, "what stays")):
            axes.set_title(f"{text}: {TITLES[metric]}")
            axes.set_xlabel("requests carried out")
            axes.set_ylim(0, 1.02)
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        legend(made, handles)
    return made


def _points(values: Sequence[Sequence[Stat]], j: int) -> Iterator[tuple[int, float]]:
    for i, row in enumerate(values):
        if (value := mean(row[j])) is not None:
            yield i, value


def show(path: pathlib.Path, found: Found) -> None:
    """Prints a table per method, how each lineage ended, and where the page is."""
    for method in methods_of(found):
        table = Table(*HEADS, title=f"{method}: {TITLES['probability']}")
        for line in at_a_glance(found, method):
            table.add_row(*line)
        console.console.print(table)
    for row in found["lineages"]:
        ended = row["ended"] or f"went through all {len(row['after'])} requests"
        kept = "kept" if row["kept"] else "lost"
        text = f"{row['method']}, seed {row['seed']}: {ended}; what stays was {kept}."
        console.result(text)
    console.result(f"Report: {path}")
