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

from experiments import glossary, plots
from experiments.report_template import STYLE, TEMPLATE
from experiments.summary import DASH, core_metrics, half_width, mebibytes, number

DESTROYED = 0.1  # of the target's retain value: below it a model counts as destroyed
FOUND_GAP = 0.02  # a smaller one between target and reference has no share to close

Row = Mapping[str, Any]


def render_html(report: Row) -> str:
    """The page of a complete report (`experiments.report.complete`).

    All text of the report is HTML-escaped; trajectories must have been read in.
    """
    summary = report["summary"]
    # A page has room for more than a console, but not for everything.
    core = [glossary.metric(name) for name in core_metrics(summary)[:9]]
    names = glossary.ordered(n for row in summary for n in row["metrics"])
    figures, undrawn = _figures(report)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(
        style=Markup(STYLE),
        report={"notes": [], **report},
        lead=_lead(report),
        cards=[_card(row, report) for row in summary if row["role"] == "unlearned"],
        core=core,
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
        environment=_pretty(report["environment"]),
        recipe=_pretty(report["recipe"]),
    )


def _lead(report: Row) -> str:
    """What was asked for, how often it was tried, and what came of the claims."""
    data, models = report["data"], report["models"]
    counts = data["counts"]
    parts = []
    if "forget" in counts and "retain" in counts:
        parts.append(
            f"{_count(counts['forget'], 'example')} of {data['name']} had to be "
            f"forgotten, {counts['retain']:,} had to be kept."
        )
    unlearned = [m for m in models if m["role"] == "unlearned"]
    methods = len({(m.get("run"), m["method"]) for m in unlearned})
    parts.append(
        f"{_count(methods, 'method')} unlearned in {_count(len(unlearned), 'run')}."
    )
    claims = report["claims"]
    if claims:
        held = sum(claim["holds"] for claim in claims)
        verb = "holds" if held == 1 else "hold"
        parts.append(f"{held} of {_count(len(claims), 'claim')} {verb}.")
    if not any(m["role"] == "retrained" for m in models):
        parts.append(
            "There is no retrained reference, so how much should be left is unknown."
        )
    return " ".join(parts)


def _card(row: Row, report: Row) -> dict[str, Any]:
    """What one method forgot and kept, in words."""
    others = [r for r in report["summary"] if r.get("run") == row.get("run")]
    target, reference = (
        next((r for r in others if r["role"] == role), None)
        for role in ("target", "retrained")
    )
    sentences, chips = [], []
    name, (ours, before, goal) = _values(glossary.FORGET, row, target, reference)
    if name is not None and ours is not None:
        sentences.append(_forgot(name, ours, before, goal))
    name, (ours, before, goal) = _values(glossary.RETAIN, row, target, reference)
    if name is not None and ours is not None:
        sentences.append(_kept(name, ours, before, goal))
        if before and ours / before < DESTROYED:
            chips.append(("bad", "model destroyed"))
    claims = [
        claim
        for claim in report["claims"]
        if claim.get("method") == row["method"] and claim.get("run") == row.get("run")
    ]
    if claims:
        held = sum(claim["holds"] for claim in claims)
        kind = "good" if held == len(claims) else "bad"
        chips.append((kind, f"{held} of {_count(len(claims), 'claim')}"))
    if not sentences:
        sentences.append("Neither forgetting nor keeping was measured.")
    return {"label": glossary.method_label(row), "sentences": sentences, "chips": chips}


def _values(names: Sequence[str], *rows: Row | None):
    """First metric that the first row has, and its mean in every row."""
    first = rows[0]
    assert first is not None
    present = [n for n, stat in first["metrics"].items() if stat["mean"] is not None]
    name = glossary.first_present(names, present)
    return name, [_mean(row, name) for row in rows]


def _forgot(name: str, ours: float, before: float | None, goal: float | None) -> str:
    what = f"Forgotten: {_quantity(name)} "
    if before is None:
        text = f"is {number(ours)}"
    else:
        verb = "fell" if ours < before else "did not fall: it went"
        text = f"{verb} from {number(before)} to {number(ours)}"
    if goal is None:
        return f"{what}{text}."
    text += f"; the retrained model, which never saw them, has {number(goal)}"
    if before is not None and before - goal > FOUND_GAP:
        share = (before - ours) / (before - goal)
        if share > 1:
            text += f". That is {number(goal - ours)} below it"
        else:
            text += f". That is {max(share, 0):.0%} of the way"
    return f"{what}{text}."


def _kept(name: str, ours: float, before: float | None, goal: float | None) -> str:
    text = f"Kept: {_quantity(name)} is {number(ours)}"
    if before:
        text += f", {ours / before:.0%} of the target's {number(before)}"
    if goal is not None:
        text += f"; the retrained model has {number(goal)}"
    return f"{text}."


def _quantity(name: str) -> str:
    part = "forget" if "forget" in name else "retain"
    if "accuracy" in name:
        return f"the accuracy on the {part} examples"
    words = ", in words never trained on," if "heldout" in name else ""
    return f"the probability of the right answers to the {part} questions{words}"


def _summary_row(row: Row, summary: Sequence[Row], core) -> dict[str, Any]:
    seconds = row.get("seconds") or {"mean": None}
    return {
        "role": row["role"],
        "label": glossary.method_label(row),
        "seeds": row["seeds"],
        "core": [_stat(row, metric.name, summary) for metric in core],
        "time": _duration(seconds["mean"]),
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
    goal = _mean(reference, name)
    distance: dict[str, Callable[[float], float]] = {
        "higher": lambda x: -x,
        "lower": lambda x: x,
        "zero": abs,
    }
    if goal is not None:
        distance["reference"] = lambda x: abs(x - goal)
    key = distance.get(glossary.metric(name).goal)
    means = [_mean(r, name) for r in rivals if r["role"] == "unlearned"]
    found = [key(m) for m in means if m is not None] if key else []
    ours = _mean(row, name)
    if key is None or ours is None or len(found) < 2 or min(found) == max(found):
        return False
    return key(ours) == min(found)


def _mean(row: Row | None, name: str | None) -> float | None:
    if row is None or name is None:
        return None
    return row["metrics"].get(name, {"mean": None})["mean"]


def _run(model: Row, core) -> dict[str, Any]:
    export, seconds = model.get("export"), model.get("seconds")
    cost, updates = model.get("gradient_evaluations"), model.get("outer_steps")
    memory = model.get("peak_bytes")
    facts = [
        None if seconds is None else _duration(seconds),
        None if cost is None else f"{cost:,.0f} gradient evaluations",
        None if updates is None else _count(updates, "update"),
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
            "Trade-off",
            functools.partial(plots.tradeoff_figure, models, summary),
            "where each method ends between the target, its start, and the retrained "
            "model, its goal. Small dots are runs, bars 95 % intervals over seeds.",
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
            functools.partial(plots.bar_figure, summary),
            "means over seeds with 95 % intervals; the dashed line is the retrained "
            "model. Metrics beyond the first "
            f"{plots.MOST_BARS} and derived ones are in the table below.",
        ),
    ):
        figure: Figure | None = draw()
        if figure is None:
            undrawn.append(name.lower())
            continue
        svg = Markup(plots.to_svg(figure, html.escape(name)))
        drawn.append({"svg": svg, "caption": f"{name}: {caption}"})
    return drawn, undrawn


def _duration(seconds: float | None) -> str:
    """Seconds for people, such as ``3 min 20 s``."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _count(number_of: int, what: str) -> str:
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
