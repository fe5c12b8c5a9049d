"""What an ablation leaves: ``ablations.json``, ``ablations.html``, the console."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from experiments.ablation import figures, verdicts
from experiments.ablation.grid import (
    GROUPS,
    TITLES,
    AblationOptions,
    Group,
    Variant,
    changes,
)
from experiments.ablation.runs import CHECKED, Measured
from experiments.ablation.statistics import statistic
from experiments.config.language import LanguageRun
from experiments.domains.base import Domain
from experiments.report import glossary
from experiments.report.page import fill, svg
from experiments.report.summary import DASH, cell, number
from experiments.shell import provenance
from experiments.stages.files import finite, to_json, write_json, write_text

SCHEMA_VERSION = 1
COLUMNS = {
    "forget_prob": "forget p",
    "retain_prob": "retain p ↑",
    "forget_nll": "forget NLL",
    "cosine": "cosine",
    "gradient_evaluations": "grad. eval.",
    "seconds": "seconds",
    "compile_seconds": "of them compiling",
}
# Where they are measured: on requests with adjacent rows, with --evaluate.
MORE = {"adjacent_prob": "adjacent p ↑", "adjacency_gap": "adjacency gap →0"}
MORE |= {"model_utility": "model utility", "forget_quality_ks": "forget quality ks"}
MORE |= {name: glossary.metric(name).label for name in glossary.LEAKS}
SPREADS = ("forget_range", "retain_range", "spread", "usable")


def content(
    domain: Domain,
    options: AblationOptions,
    variants: Sequence[Variant],
    measured: Measured,
) -> dict[str, Any]:
    """Everything that was found, as JSON values; what is not finite becomes null."""
    run = domain.run
    spreads = verdicts.spreads(variants, measured.rows, measured.before)
    difficulty = verdicts.by_method(measured.points, options.resamples)
    found = {
        "schema_version": SCHEMA_VERSION,
        "title": f"Ablations: {domain.about.title}",
        **provenance.made("experiments.ablations"),
        "recipe": dataclasses.asdict(run),
        "options": dataclasses.asdict(options),
        "data": dict(domain.about.sizes),
        "before": {
            "seeds": measured.before,
            "statistics": _statistics(
                [{name: row[name] for name in CHECKED} for row in measured.before]
            ),
        },
        "variants": [_variant(run, v, measured) for v in variants],
        "runs": measured.rows,
        "not_run": measured.not_run,
        "weighting": spreads,
        "difficulty": {"points": measured.points, "methods": difficulty},
        "claims": [
            verdicts.similarity_claim(variants, measured.rows),
            verdicts.weighting_claim(spreads),
            verdicts.difficulty_claim(difficulty),
        ],
    }
    return finite(to_json(found))


def _variant(run: LanguageRun, variant: Variant, measured: Measured) -> dict[str, Any]:
    rows = [row for row in measured.rows if row["method"] == variant.key]
    costs = ("seconds", "compile_seconds", "gradient_evaluations")
    values = [row["metrics"] | {cost: row[cost] for cost in costs} for row in rows]
    return {
        "group": variant.group,
        "series": variant.series,
        "label": variant.label,
        "method": variant.method,
        "key": variant.key,
        "base": variant.key == variant.method,
        "changes": changes(run.config_of(variant.method), variant.config),
        "seeds": [row["seed"] for row in rows],
        "statistics": _statistics(values),
        "not_run": measured.not_run.get(variant.key),
    }


def _statistics(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Name -> mean, interval and values over the seeds."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistic(row.get(name) for row in rows) for name in names}


def write(folder: pathlib.Path, found: Mapping[str, Any]) -> pathlib.Path:
    """Writes both files and returns the page's path."""
    write_json(folder / "ablations.json", found)
    path = folder / "ablations.html"
    write_text(path, render(found))
    return path


def render(found: Mapping[str, Any]) -> str:
    """The page; all text is HTML-escaped and nothing is loaded from anywhere."""
    columns = columns_of(found)
    pictures = {
        name: [(svg(figure, caption), caption)] if figure is not None else []
        for name, (figure, caption) in claim_figures(found).items()
    }
    return fill(
        "ablations.html.j2",
        report=found,
        columns=list(columns.values()),
        claims=[
            {
                **claim,
                "parts": [
                    {**p, "numbers": numbers(p)}
                    for p in claim["parts"]
                    if p["mean"] is not None
                ],
                "figures": pictures[claim["id"]],
            }
            for claim in found["claims"]
        ],
        groups=[_group(found, name, columns) for name in groups(found)],
        spreads=[
            (name, *(cell(spread[k]) for k in SPREADS))
            for name, spread in found["weighting"].items()
        ],
    )


def columns_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Metric -> head, of the columns of every table: those of `MORE` if some variant
    has them."""
    names = {name for variant in found["variants"] for name in variant["statistics"]}
    return COLUMNS | {name: head for name, head in MORE.items() if name in names}


def groups(found: Mapping[str, Any]) -> list[Group]:
    """The groups that were varied, in the order of `ablation.grid.GROUPS`."""
    present = {variant["group"] for variant in found["variants"]}
    return [group for group in GROUPS if group in present]


def of_group(found: Mapping[str, Any], group: str) -> list[dict[str, Any]]:
    """The variants of a group, in their order."""
    return [v for v in found["variants"] if v["group"] == group]


def _group(found: Mapping[str, Any], name: Group, columns) -> dict[str, Any]:
    table = of_group(found, name)
    before = found["before"]["statistics"]
    means = {metric: stat["mean"] for metric, stat in before.items()}
    return {
        "name": TITLES[name],
        "bars": figures.group_bars(table, means),
        "rows": [
            row | {"cells": [cell(row["statistics"].get(m)) for m in columns]}
            for row in table
        ],
    }


def claim_figures(found: Mapping[str, Any]) -> dict[str, tuple[Figure | None, str]]:
    """Claim -> its figure, None where nothing was measured, and the caption."""
    similarity = of_group(found, "beta")
    series: dict[str, list] = {}
    for row in of_group(found, "weighting"):
        series.setdefault(row["series"], []).append(row)
    return {
        "a": (
            figures.cosine_figure(similarity, found["runs"]),
            "Cosine of the gradients along the run, one line per seed; blue is the "
            "run as configured",
        ),
        "b": (
            figures.weighting_figure(series),
            "Outcomes over each grid, means over seeds; larger markers, larger weight",
        ),
        "c": (
            figures.difficulty_figure(found["difficulty"]["points"]),
            "Utility loss over the difficulty of the group, one line per seed",
        ),
    }


def numbers(stat: Mapping[str, Any]) -> str:
    """A mean with its interval, the count and the p-value, for people.

    >>> numbers({"mean": 0.25, "low": 0.125, "high": 0.375, "n": 3})
    '+0.250 [+0.125, +0.375], n = 3'
    """
    if stat["mean"] is None:
        return DASH
    text = _signed(stat["mean"])
    if stat["low"] is not None:
        text += f" [{_signed(stat['low'])}, {_signed(stat['high'])}]"
    text += f", n = {stat['n']}"
    return text if stat.get("p") is None else f"{text}, p = {number(stat['p'])}"


def _signed(value: float) -> str:
    text = number(value)
    return text if text.startswith("-") else f"+{text}"


def cells(row: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    """The metrics of a variant as texts; the first says if it was not run."""
    texts = [cell(row["statistics"].get(name)) for name in columns]
    return ["not run", *texts[1:]] if row["not_run"] and not row["seeds"] else texts


def group_table(found: Mapping[str, Any]) -> Table:
    """All variants for the console, a section per group."""
    table = Table(title=Text(found["title"]), box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("variant")
    columns = columns_of(found)
    for label in columns.values():
        table.add_column(label, justify="right")
    for group in groups(found):
        for row in of_group(found, group):
            texts = map(Text, (row["label"], *cells(row, columns)))
            table.add_row(*texts, style="bold" if row["base"] else None)
        table.add_section()
    return table


def claims_table(found: Mapping[str, Any]) -> Table:
    """The claims with the numbers that decided, for the console."""
    table = Table(title="The paper's claims", box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in ("claim", "verdict", "numbers that decide"):
        table.add_column(heading)
    for claim in found["claims"]:
        lines = [
            f"{p['text']}: {numbers(p)}" for p in claim["parts"] if p["decides"]
        ] or [DASH]
        label = f"({claim['id']}) {claim['text']}"
        table.add_row(Text(label), Text(claim["verdict"]), Text("\n".join(lines)))
    return table
