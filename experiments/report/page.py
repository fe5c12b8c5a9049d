"""The page of a report: its words, tables and plots in one self-contained file."""

import functools
import html
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments.report import attacks, glossary, summary_figures
from experiments.report import figures as plots
from experiments.report.budget_figure import budget_figure
from experiments.report.comparison import (
    agreement_rows,
    agreement_text,
    comparison_table,
)
from experiments.report.gaps import AGGREGATE
from experiments.report.summary import core_metrics, half_width, mean, mebibytes, number
from experiments.report.words import card, count, lead, spent

Row = Mapping[str, Any]
BUDGETS = next(iter(glossary.CAPTIONS))
MOST_COLUMNS = 12  # a page has room for more than a console, but not for everything


def fill(template: str, **values: Any) -> str:
    """A file of ``templates/`` with values, all of whose text is HTML-escaped.

    What UTF-8 has not, half a pair of surrogates, is a reference in it.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    pretty = functools.partial(json.dumps, indent=2, ensure_ascii=False)
    environment.filters["pretty"] = pretty
    page = environment.get_template(template).render(**values)
    return page.encode("utf-8", "xmlcharrefreplace").decode("utf-8")


def render_html(report: Row) -> str:
    """The page of a complete report (`experiments.report.write.complete`).

    Its trajectories must have been read in.
    """
    summary = report["summary"]
    core = [glossary.metric(name) for name in core_metrics(summary)[:MOST_COLUMNS]]
    names = glossary.ordered(n for row in summary for n in row["metrics"])
    figures, undrawn = _figures(report)
    return fill(
        "report.html.j2",
        report={"notes": [], **report},
        lead=lead(report),
        cards=[card(verdict, report) for verdict in report["verdicts"]],
        core=core,
        compared=comparison_table(report),
        aggregate=glossary.metric(AGGREGATE),
        agreement=agreement_text(report),
        pairs=agreement_rows(report),
        summary=[_summary_row(row, summary, core) for row in summary],
        attacks=_attacks(report.get("attacks")),
        figures=figures,
        undrawn=", ".join(undrawn),
        runs=[_run(model, core) for model in report["models"]],
        everything=[
            {
                "metric": glossary.metric(name),
                "cells": [_stat(row, name, summary) for row in summary],
            }
            for name in names
        ],
        gaps=_gaps(report),
        glossary=[m for m in map(glossary.metric, names) if m.text],
    )


def _attacks(found: Row | None) -> dict[str, Any] | None:
    """The section on attacks, with its figure."""
    shown = attacks.section(found)
    figure = svg(attacks.attack_figure(found), "Attacks")
    return shown and {**shown, "figure": figure}


def _summary_row(row: Row, summary: Sequence[Row], core) -> dict[str, Any]:
    return {
        "role": row["role"],
        "label": glossary.method_label(row),
        "seeds": row["seeds"],
        "core": [_stat(row, metric.name, summary) for metric in core],
        "time": spent(mean(row.get("seconds")), mean(row.get("compile_seconds"))),
        "memory": mebibytes(row.get("peak_bytes")),
    }


def _stat(row: Row, name: str, summary: Sequence[Row]) -> dict[str, Any]:
    """The cell of a mean: its text, its interval, and whether it is the best."""
    stat = row["metrics"].get(name)
    if stat is None or stat["mean"] is None:
        return {"text": number(None), "spread": "", "best": False}
    half = half_width(stat)
    spread = "" if half is None else f"±{number(half)}"
    if stat["n"] < row["seeds"]:
        spread = f"{spread} ({stat['n']} of {row['seeds']} seeds)".strip()
    best = row["role"] == "unlearned" and _is_best(row, name, summary)
    return {"text": number(stat["mean"]), "spread": spread, "best": best}


def _is_best(row: Row, name: str, summary: Sequence[Row]) -> bool:
    """Whether no other method of the run is nearer to the metric's goal."""
    rivals = [r for r in summary if r.get("run") == row.get("run")]
    values = {
        role: [mean(r["metrics"].get(name)) for r in rivals if r["role"] == role]
        for role in ("retrained", "unlearned")
    }
    goal = next(iter(values["retrained"]), None)
    distance: dict[str, Callable[[float], float]] = {
        "higher": lambda x: -x,
        "lower": lambda x: x,
        "zero": abs,
    }
    if goal is not None:
        distance["reference"] = lambda x: abs(x - goal)
    key = distance.get(glossary.metric(name).goal)
    found = [key(m) for m in values["unlearned"] if m is not None] if key else []
    if key is None or len(found) < 2 or min(found) == max(found):
        return False
    return key(row["metrics"][name]["mean"]) == min(found)


def _run(model: Row, core) -> dict[str, Any]:
    export, seconds = model.get("export"), model.get("seconds")
    cost, updates = model.get("gradient_evaluations"), model.get("outer_steps")
    memory = model.get("peak_bytes")
    facts = [
        None if seconds is None else spent(seconds, model.get("compile_seconds")),
        None if cost is None else f"{cost:,.0f} gradient evaluations",
        None if updates is None else count(updates, "update"),
        None if memory is None else f"{number(memory / 2**20)} MiB a step",
        f"stopped: {model['stopped']}" if model.get("stopped") else None,
    ]
    return {
        "role": model["role"],
        "label": glossary.method_label(model),
        "id": f"{model['method']}/seed{model['seed']}",
        "core": [_run_cell(model, metric.name) for metric in core],
        "facts": [fact for fact in facts if fact is not None],
        "export": export,
        "href": urllib.parse.quote(export) if export else None,
    }


def _run_cell(model: Row, name: str) -> dict[str, Any]:
    ends = (model.get("intervals") or {}).get(name)
    known = ends is not None and None not in ends
    spread = f"[{number(ends[0])}, {number(ends[1])}]" if known else ""
    return {"text": number(model["metrics"].get(name)), "spread": spread}


def _gaps(report: Row) -> list[dict[str, str]]:
    """Metrics that are missing, by their reason; notes; values that are not finite."""
    grouped: dict[tuple[str, str], dict[str, list[str]]] = {}
    for model in report["models"]:
        run = f"{glossary.method_label(model)}, seed {model['seed']}"
        for kind, field in (("not measured", "missing"), ("note", "notes")):
            for text in model.get(field) or []:
                what, _, why = text.partition(": ")
                group = grouped.setdefault((kind, why), {})
                group.setdefault(what, []).append(run)
    total = len(report["models"])
    gaps = []
    for (kind, why), names in grouped.items():
        runs = list(dict.fromkeys(run for where in names.values() for run in where))
        where = "all models" if len(runs) == total else "; ".join(runs)
        what = ", ".join(names)
        gaps.append({"kind": kind, "what": what, "why": why, "where": where})
    for path in report.get("not_finite") or []:
        why = "it was NaN or infinite"
        gaps.append({"kind": "not finite", "what": path, "why": why, "where": ""})
    return gaps


def _figures(report: Row) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures that can be drawn with their captions, and the names of others."""
    models, summary = report["models"], report["summary"]
    drawn, undrawn = [], []
    for figure, (name, caption) in zip(
        (
            budget_figure(summary) if report["data"]["counts"] else None,
            plots.trajectory_figure(models, summary),
            summary_figures.tradeoff_figure(models, summary),
            plots.cosine_figure(models),
            plots.penalty_figure(models),
            plots.loss_figure(models),
            summary_figures.bar_figure(summary),
        ),
        glossary.CAPTIONS.items(),
        strict=True,
    ):
        if figure is not None:
            caption = caption.format(most_bars=summary_figures.MOST_BARS)
            drawn.append({"svg": svg(figure, name), "caption": f"{name}: {caption}"})
        elif name != BUDGETS:  # which is of several runs
            undrawn.append(name.lower())
    return drawn, undrawn


def svg(figure: Figure | None, label: str) -> Markup | None:
    """A figure for a page; None where there is none."""
    return None if figure is None else Markup(plots.to_svg(figure, html.escape(label)))
