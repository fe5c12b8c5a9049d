"""Attacks in a report: tables of what they found, and their words; `shown.curves` has
their curves.

What is shown comes from `experiments.domains.attack_report`.
"""

import re
from collections.abc import Mapping
from typing import Any

from experiments.report import glossary
from experiments.report.shown import notes
from experiments.report.summary import DASH, number
from ofmu_jax.attacks.recovery import NONE, RECOVERS, UNKNOWN

Row = Mapping[str, Any]
CHIPS = {RECOVERS: "bad", UNKNOWN: "note", NONE: "good"}
CAPTION = (
    "Recovered: (the attacked model − the attacked retrained model) / (target − "
    "retrained model, both without the attack), with a 95 % interval over rows and "
    "seeds. A signed number is the difference alone: of an AUC, or where there is no "
    "target or it knew no more. What is surely below 10 % (below 0.1 of a difference, "
    "either way of an AUC) is no recovery, under this attack at this budget."
)


def recovered(row: Row) -> str:
    """What an attack recovers, with its interval, as a share or as a difference.

    >>> recovered({"recovered": 0.5, "difference": 0.4, "interval": [0.25, 0.75]})
    '50% [25%, 75%]'
    >>> recovered({"recovered": None, "difference": -0.125, "interval": None})
    '-0.125'
    """
    share, difference, ends = row["recovered"], row["difference"], row["interval"]
    text = _percent if share is not None else _signed
    found = text(difference if share is None else share)
    return found if ends is None else f"{found} [{text(ends[0])}, {text(ends[1])}]"


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{value:.0%}"


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.3f}"


def matrix(found: Row) -> list[list[Row | None]]:
    """A list an attack of the rows of all methods, in their orders; None: not run."""
    rows = {(row["attack"], *_whose(row)): row for row in found["rows"]}
    methods = [_whose(verdict) for verdict in found["verdicts"]]
    return [[rows.get((name, *m)) for m in methods] for name in found["attacks"]]


def _whose(row: Row) -> tuple[str | None, str]:
    """The run, where there are several, and the method."""
    return row.get("run"), row["method"]


def merged(reports: Mapping[str, Row]) -> dict[str, Any] | None:
    """What the attacks of several runs found, each row with the name of its run; None
    if none was attacked.

    Args:
      reports: name of a run -> its report.
    """
    every = {name: r["attacks"] for name, r in reports.items() if r.get("attacks")}
    if not every:
        return None
    rows_of = lambda part: [
        {**row, "run": run} for run, found in every.items() for row in found[part]
    ]
    parts = ("rows", "verdicts", "curves", "missing")
    tagged: dict[str, Any] = {part: rows_of(part) for part in parts}
    for gap in tagged["missing"]:
        gap["model"] = f"{gap['model']}, {gap['run']}"
    tagged["missing"] += [
        {"attack": "all", "model": run, "why": "it was run without --attacks"}
        for run in reports
        if run not in every
    ]
    names = dict.fromkeys(name for found in every.values() for name in found["attacks"])
    return {"attacks": {name: _entry(name, every) for name in names}, **tagged}


def _entry(attack: str, every: Mapping[str, Row]) -> dict[str, str]:
    """What is said of an attack; of several budgets each run's."""
    own = {
        run: found["attacks"][attack]
        for run, found in every.items()
        if attack in found["attacks"]
    }
    first, budgets = next(iter(own.values())), [x["budget"] for x in own.values()]
    if len(set(budgets)) == 1:
        return first
    told = "; ".join(f"{run}: {entry['budget']}" for run, entry in own.items())
    return {**first, "budget": f"not the same in all runs, so do not compare: {told}"}


def attack_table(found: Row) -> list[list[str]]:
    """Heads, then for each attack what it recovers from each method."""
    heads = ["Attack", *map(_label, found["verdicts"])]
    return [
        heads,
        *(
            [name, *(DASH if row is None else recovered(row) for row in rows)]
            for name, rows in zip(found["attacks"], matrix(found), strict=True)
        ),
    ]


def verdict_lines(found: Row) -> list[str]:
    """A sentence a method: the worst that the attacks found."""
    return [f"{_label(v)}: {v['text']}." for v in found["verdicts"]]


def section(found: Row | None) -> dict[str, Any] | None:
    """What the page shows of attacks; None without any."""
    if not found or not found["attacks"]:
        return None
    verdicts = zip(found["verdicts"], verdict_lines(found), strict=True)
    return {
        "caption": CAPTION,
        "verdicts": [
            (CHIPS[v["word"]], v["word"], _titled(text, found["attacks"]))
            for v, text in verdicts
        ],
        "methods": list(map(_label, found["verdicts"])),
        "matrix": [
            {"title": found["attacks"][name]["title"], "cells": list(map(_cell, rows))}
            for name, rows in zip(found["attacks"], matrix(found), strict=True)
            if any(row is not None for row in rows)
        ],
        "details": [_details(row, found["attacks"]) for row in found["rows"]],
        "budgets": [{"name": k, **v} for k, v in found["attacks"].items()],
        "missing": notes.not_run(found["missing"], found["attacks"]),
    }


def _titled(text: str, attacks: Row) -> str:
    """With the titles of attacks in place of their names.

    >>> _titled("recovered by mia-min-k 9%", {"mia-min-k": {"title": "Min-k"}})
    'recovered by “Min-k” 9%'
    """
    title = lambda match: f"“{attacks[match[0]]['title']}”"
    names = "|".join(sorted(map(re.escape, attacks), key=len, reverse=True))
    return re.sub(rf"(?<![\w-])(?:{names})(?![\w-])", title, text)


def _label(row: Row) -> str:
    return glossary.method_label({**row, "role": "unlearned"})


def _cell(row: Row | None) -> dict[str, str]:
    if row is None:
        return {"text": DASH, "kind": ""}
    return {"text": recovered(row), "kind": CHIPS[row["word"]]}


def _details(row: Row, attacks: Mapping[str, Row]) -> dict[str, Any]:
    """A row in full: values without and under the attack, the yardsticks, kinds."""
    attack, said = attacks[row["attack"]], [row["said"]]
    if attack["axis"]:
        said = [f"at {attack['axis']} {row['at']:g}", *said]
    if row["kinds"] is not None:
        shares = ((k, v) for k, v in row["kinds"].items() if k != "answered" and v)
        said += [f"{share:.0%} {kind}" for kind, share in shares]
    values = (row[k] for k in ("before", "after", "reference", "target"))
    return {
        "method": _label(row),
        "attack": attack["title"],
        "values": [number(value) for value in values],
        "left": _percent(row["left"]),
        "recovered": recovered(row),
        "said": "; ".join(filter(None, said)),
        "unit": attack["unit"],
    }
