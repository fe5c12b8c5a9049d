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

from experiments.report import figures as plots
from experiments.report import glossary, summary_figures
from experiments.report.comparison import (
    HEADS,
    agreement_rows,
    agreement_text,
    comparison_rows,
)
from experiments.report.gaps import AGGREGATE
from experiments.report.summary import DASH, core_metrics, half_width, mebibytes, number
from experiments.report.words import card, count, duration, lead, mean_of

Row = Mapping[str, Any]


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
    # A page has room for more than a console, but not for everything.
    core = [glossary.metric(name) for name in core_metrics(summary)[:9]]
    names = glossary.ordered(n for row in summary for n in row["metrics"])
    figures, undrawn = _figures(report)
    return fill(
        "report.html.j2",
        report={"notes": [], **report},
        lead=lead(report),
        cards=[card(row, report) for row in summary if row["role"] == "unlearned"],
        core=core,
        compared=comparison_rows(report),
        compared_heads=HEADS,
        aggregate=glossary.metric(AGGREGATE),
        agreement=agreement_text(report),
        pairs=agreement_rows(report),
        summary=[_summary_row(row, summary, core) for row in summary],
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


def _summary_row(row: Row, summary: Sequence[Row], core) -> dict[str, Any]:
    seconds = row.get("seconds") or {"mean": None}
    return {
        "role": row["role"],
        "label": glossary.method_label(row),
        "seeds": row["seeds"],
        "core": [_stat(row, metric.name, summary) for metric in core],
        "time": duration(seconds["mean"]),
        "memory": mebibytes(row.get("peak_bytes")),
    }


def _stat(row: Row, name: str, summary: Sequence[Row]) -> dict[str, Any]:
    """The cell of a mean: its text, its interval, and whether it is the best."""
    stat = row["metrics"].get(name)
    if stat is None or stat["mean"] is None:
        return {"text": DASH, "spread": "", "best": False}
    half = half_width(stat)
    spread = "" if half is None else f"±{number(half)}"
    if stat["n"] < row["seeds"]:
        spread = f"{spread} ({stat['n']} of {row['seeds']} seeds)".strip()
    best = row["role"] == "unlearned" and _is_best(row, name, summary)
    return {"text": number(stat["mean"]), "spread": spread, "best": best}


def _is_best(row: Row, name: str, summary: Sequence[Row]) -> bool:
    """Whether no other method of the run is nearer to the metric's goal."""
    rivals = [r for r in summary if r.get("run") == row.get("run")]
    reference = next((r for r in rivals if r["role"] == "retrained"), None)
    goal = mean_of(reference, name)
    distance: dict[str, Callable[[float], float]] = {
        "higher": lambda x: -x,
        "lower": lambda x: x,
        "zero": abs,
    }
    if goal is not None:
        distance["reference"] = lambda x: abs(x - goal)
    key = distance.get(glossary.metric(name).goal)
    means = [mean_of(r, name) for r in rivals if r["role"] == "unlearned"]
    found = [key(m) for m in means if m is not None] if key else []
    ours = mean_of(row, name)
    if key is None or ours is None or len(found) < 2 or min(found) == max(found):
        return False
    return key(ours) == min(found)


def _run(model: Row, core) -> dict[str, Any]:
    export, seconds = model.get("export"), model.get("seconds")
    cost, updates = model.get("gradient_evaluations"), model.get("outer_steps")
    memory = model.get("peak_bytes")
    facts = [
        None if seconds is None else duration(seconds),
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
        for text in model.get("missing") or []:
            name, _, reason = text.partition(": ")
            group = grouped.setdefault(("not measured", reason), {})
            group.setdefault(name, []).append(run)
        for text in model.get("notes") or []:
            what, _, why = text.partition(": ")
            group = grouped.setdefault(("note", why), {})
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
    for name, draw, caption in (
        (
            "Forgetting and keeping over the run",
            functools.partial(plots.trajectory_figure, models, summary),
            "measured on the training questions at the checks of the run, one line per "
            "seed. A run may return an earlier check than its last: see why it "
            "stopped, under every run.",
        ),
        (
            "Trade-off of forgetting and utility",
            functools.partial(summary_figures.tradeoff_figure, models, summary),
            "distance of forgetting from the retrained model, the goal (★), against "
            "utility: the best place is top left. Small dots are runs, bars 95 % "
            "intervals over seeds; the line joins the methods whose means no other "
            "method beats in both.",
        ),
        (
            "Cosine of the gradients",
            functools.partial(plots.cosine_figure, models),
            "of the forget and the retain loss on a minibatch. OFMU's inner objective "
            "lowers it, so that forgetting does not undo retaining. Thick lines are "
            "running means.",
        ),
        (
            "Gradient of the inner objective",
            functools.partial(plots.penalty_figure, models),
            "‖∇Φ‖ is 0 where the inner problem is solved; OFMU's outer step is "
            "penalised by ρ‖∇Φ‖².",
        ),
        (
            "Losses on the minibatches",
            functools.partial(plots.loss_figure, models),
            "as each method defines them: the forget loss of one cannot be compared "
            "with another's.",
        ),
        (
            "All methods, metric by metric",
            functools.partial(summary_figures.bar_figure, summary),
            "means over seeds with 95 % intervals; the dashed line is the retrained "
            "model. Metrics beyond the first "
            f"{summary_figures.MOST_BARS} and derived ones are in the table below.",
        ),
    ):
        figure: Figure | None = draw()
        if figure is None:
            undrawn.append(name.lower())
            continue
        svg = Markup(plots.to_svg(figure, html.escape(name)))
        drawn.append({"svg": svg, "caption": f"{name}: {caption}"})
    return drawn, undrawn
