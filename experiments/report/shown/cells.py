"""Cells of a page's tables: a text, what stands below it, and what it sorts by."""

import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.report import glossary
from experiments.report.comparison import MEASURED, comparison_table
from experiments.report.summary import half_width, mean, number
from experiments.report.words import count, spent

Row = Mapping[str, Any]
COSTS = ("time", "step memory, MiB")  # of the summary, as of the comparison


def compared(report: Row, core: Sequence[glossary.Metric]) -> list[list]:
    """The table of `comparison`, less what the summary has: a line of heads, then cells
    in their parts."""
    heads, *rows = comparison_table(report) or [[]]
    named = {metric.name for metric in core}
    seen = {*COSTS, *(head for name, head in MEASURED.items() if name in named)}
    kept = [place for place, head in enumerate(heads) if head not in seen]
    cells = [[row[0], *(parted(row[place]) for place in kept[1:])] for row in rows]
    shown = [heads[place].replace("its p,", "forget quality p,") for place in kept]
    return [shown, *cells] if rows else []


def parted(text: str, value: float | None = None) -> dict[str, Any]:
    """A cell whose details stand below: ``0.25 ±0.1``, ``1 (1–2)``, ``shown: why``."""
    match = re.fullmatch(r"(.+?)(?:: | (?=[±(]))(.+)", text)
    first, rest = match.groups() if match else (text, "")
    return {"text": first, "spread": rest, "v": value}


def claim(claim: Row) -> dict[str, Any]:
    """A claim with the names of method and metric that people read."""
    text, method = claim["text"], claim.get("method")
    name, _, rest = claim["evidence"].partition(": ")
    entry = glossary.metric(name)
    if method and (begun := re.match(rf"(?:.*: )?{re.escape(method)}\b", text)):
        label = glossary.method_label({"role": "unlearned", "method": method})
        text = begun[0].removesuffix(method) + label + text[begun.end() :]
    known = {"evidence": f"{entry.label}: {rest}", "name": f"{name}: {entry.text}"}
    return {**claim, "text": text, "name": "", **(known if entry.text else {})}


def stat(row: Row, name: str, report: Row) -> dict[str, Any]:
    """The cell of a mean: its text, its interval (of two seeds, or where that is wider
    than what can be: their values), and whether it is the best."""
    stat = row["metrics"].get(name)
    if stat is None or stat["mean"] is None:
        return {"text": number(None), "spread": "", "best": False, "v": None}
    half = half_width(stat)
    spread = "" if half is None else f"±{number(half)}"
    low, high = glossary.metric(name).range
    if stat["n"] == 2 or (half is not None and 2 * half > high - low):
        values = _values(row, name, report["models"])
        spread = " · ".join(map(number, values))
        if len(values) > 3:
            spread = f"{number(min(values))} to {number(max(values))}"
    if stat["n"] < row["seeds"]:
        spread = f"{spread} ({stat['n']} of {row['seeds']} seeds)".strip()
    best = row["role"] == "unlearned" and _is_best(row, name, report["summary"])
    text = number(stat["mean"])
    return {"text": text, "spread": spread, "best": best, "v": stat["mean"]}


def _values(row: Row, name: str, models: Sequence[Row]) -> list[float]:
    """A metric of the runs that a row of the summary is the mean of."""
    of = lambda entry: tuple(entry.get(key) for key in ("run", "role", "method"))
    own = (model["metrics"].get(name) for model in models if of(model) == of(row))
    return [value for value in own if value is not None]


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


def run(model: Row, core) -> dict[str, Any]:
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
        "method": model["method"],
        "label": glossary.method_label(model),
        "seed": model["seed"],
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
    value = model["metrics"].get(name)
    return {"text": number(value), "spread": spread, "v": value}
