"""The page of a report: its words, tables and plots in one self-contained file."""

import datetime
import functools
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from experiments.report import attacks, glossary
from experiments.report import figures as plots
from experiments.report.comparison import (
    agreement_rows,
    agreement_text,
)
from experiments.report.gaps import AGGREGATE
from experiments.report.shown import answers, bars, cells, curves, gauges, notes
from experiments.report.shown.budgets import budgets
from experiments.report.shown.panels import Panel, drawn
from experiments.report.summary import core_metrics, mean, mebibytes, number
from experiments.report.words import lead, spent

Row = Mapping[str, Any]
AT_ONCE, BESIDE = ("budgets", "trajectories"), ("tradeoff",)
FIELDS = {"not measured": "missing", "note": "notes"}  # of a model, in _gaps
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
    environment.filters["when"] = _when
    page = environment.get_template(template).render(num=number, **values)
    return page.encode("utf-8", "xmlcharrefreplace").decode("utf-8")


def _when(created: str) -> str:
    """A moment for people.

    >>> _when("2025-01-31T12:00:05+00:00")
    '2025-01-31, 12:00 UTC'
    """
    at = datetime.datetime.fromisoformat(created).astimezone(datetime.UTC)
    return f"{at:%Y-%m-%d, %H:%M} UTC"


def render_html(report: Row) -> str:
    """The page of a complete report (`experiments.report.write.complete`).

    Its trajectories must have been read in.
    """
    summary = report["summary"]
    palette = plots.colors(summary)
    core = [glossary.metric(name) for name in core_metrics(summary)[:MOST_COLUMNS]]
    names = glossary.ordered(n for row in summary for n in row["metrics"])
    plots_of = _plots(report, palette)
    chosen = lambda keys: [plots_of[key] for key in keys if key in plots_of]
    runs = [cells.run(model, core) for model in report["models"]]
    return fill(
        "report.html.j2",
        report={**report, "notes": notes.notes(report)},
        lead=lead(report),
        **_first(report, palette),
        legend=_legend(summary),
        has_references=any(row["role"] == "retrained" for row in summary),
        core=core,
        compared=cells.compared(report, core),
        claims=[cells.claim(claim) for claim in report["claims"]],
        aggregate=glossary.metric(AGGREGATE),
        agreement=agreement_text(report),
        pairs=agreement_rows(report),
        summary=[_summary_row(row, report, core) for row in summary],
        timed=any(mean(row.get("seconds")) is not None for row in summary),
        weighed=any(mean(row.get("peak_bytes")) is not None for row in summary),
        attacks=_attacks(report.get("attacks"), palette),
        beside=chosen(BESIDE),
        shown=chosen(AT_ONCE),
        more=chosen(key for key in plots_of if key not in AT_ONCE + BESIDE),
        runs=runs,
        everything=[
            {
                "metric": glossary.metric(name),
                "cells": [cells.stat(row, name, report) for row in summary],
            }
            for name in names
        ],
        gaps=_gaps(report),
        glossary=[m for m in map(glossary.metric, names) if m.text],
    )


def _first(report: Row, palette: Mapping[str, str]) -> dict[str, Any]:
    """What the first screen shows: a row a method, and the answers."""
    rows, found = gauges.rows(report, palette), report.get("answers")
    cards = answers.cards(found)
    said = {line["name"] for card in cards for line in card["lines"]}
    choices = [row for row in rows if row["method"] in said]
    known = [row[q] for row in rows for q in gauges.QUESTIONS if row[q] is not None]
    names = {
        q: {row[q].metric.name for row in rows if row[q]} for q in gauges.QUESTIONS
    }
    return {
        "rows": rows,
        "measured": gauges.heads(rows),
        "metric_names": {q: ", ".join(sorted(found)) for q, found in names.items()},
        "has_zone": any(gauge.zone for gauge in known),
        "has_band": any(gauge.interval for gauge in known),
        "has_seeds": any(len(gauge.seeds) > 1 for gauge in known),
        "answers": cards,
        "choices": choices,
        "places": {row["method"]: place for place, row in enumerate(choices)},
        "seed": found["seed"] if found else None,
    }


def _legend(summary: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Label, name and colour of every method, whatever runs it is of."""
    label = lambda name: glossary.method_label({"role": "unlearned", "method": name})
    palette = plots.method_colors(summary)
    return [(label(name), name, colour) for name, colour in palette.items()]


def _attacks(found: Row | None, palette: Mapping[str, str]) -> dict[str, Any] | None:
    """The section on attacks, with its figures."""
    shown = attacks.section(found)
    panels = [drawn(panel) for panel in curves.attack_curves(found, palette)]
    return shown and {**shown, "figures": panels}


def _summary_row(row: Row, report: Row, core) -> dict[str, Any]:
    seconds = mean(row.get("seconds"))
    return {
        "role": row["role"],
        "method": row["method"] if row["role"] == "unlearned" else "",
        "label": glossary.method_label(row),
        "seeds": row["seeds"],
        "core": [cells.stat(row, metric.name, report) for metric in core],
        "time": cells.parted(spent(seconds, mean(row.get("compile_seconds"))), seconds),
        "memory": mebibytes(row.get("peak_bytes")),
    }


def _gaps(report: Row) -> list[dict[str, str]]:
    """Metrics that are missing, by their reason; notes; values that are not finite."""
    grouped: dict[tuple[str, str], dict[str, list[str]]] = {}
    lacking = lambda model: {x for k in FIELDS.values() for x in model.get(k) or []}
    others = set().union(
        *(lacking(m) for m in report["models"] if m["role"] != "retrained")
    )
    for model in report["models"]:
        run = f"{glossary.method_label(model)}, seed {model['seed']}"
        for kind, field in FIELDS.items():
            for text in model.get(field) or []:
                if model["role"] == "retrained" and text not in others:
                    continue  # it is compared with itself in nothing
                what, _, why = text.partition(": ")
                group = grouped.setdefault((kind, why), {})
                group.setdefault(what, []).append(run)
    total = len(report["models"])
    gaps = []
    for (kind, why), names in grouped.items():
        runs = list(dict.fromkeys(run for where in names.values() for run in where))
        where = "all models" if len(runs) == total else "; ".join(runs)
        what = ", ".join(names)
        known = [glossary.metric(name) for name in names]
        label = ", ".join(m.label for m in known) if all(m.text for m in known) else ""
        gap = {"kind": kind, "what": what, "label": label, "why": why}
        gaps.append(gap | {"where": where})
    for path in report.get("not_finite") or []:
        why = "it was NaN or infinite"
        gaps.append(
            {"kind": "not finite", "what": path, "label": "", "why": why, "where": ""}
        )
    return gaps


def _plots(report: Row, palette: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The plots that have values, by their names in the glossary."""
    models, summary = report["models"], report["summary"]
    several = bool(report["data"]["counts"])  # runs of the same rows, if of several
    found = {
        "budgets": budgets(summary) if several else [],
        "tradeoff": curves.tradeoff(models, summary, palette),
        "trajectories": curves.trajectories(models, summary, palette),
        "cosine": curves.cosine(models, palette),
        "penalty": curves.penalty(models, palette),
        "losses": curves.losses(models, palette),
        "bars": bars.of_summary(summary, palette),
    }
    return {key: _plot(key, plot) for key, plot in found.items() if plot}


def _plot(key: str, found: Sequence[Panel | dict[str, Any]]) -> dict[str, Any]:
    entry = glossary.FIGURES[key]
    return {
        "name": entry["name"],
        "caption": entry["caption"].format(most_bars=bars.MOST_PANELS),
        "panels": [drawn(panel) for panel in found if isinstance(panel, Panel)],
        "bars": [panel for panel in found if isinstance(panel, dict)],
    }


def svg(figure: Figure | None, label: str) -> Markup | None:
    """A figure for a page; None where there is none."""
    return None if figure is None else Markup(plots.to_svg(figure, html.escape(label)))
