"""Attacks in a report: tables of what they found, and their words; `shown.curves` has
their curves.

What is shown comes from `experiments.domains.attack_report`.
"""

from collections.abc import Mapping
from typing import Any

from experiments.report import glossary
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
    rows = {(row["attack"], row["method"]): row for row in found["rows"]}
    methods = [verdict["method"] for verdict in found["verdicts"]]
    return [[rows.get((name, m)) for m in methods] for name in found["attacks"]]


def attack_table(found: Row) -> list[list[str]]:
    """Heads, then for each attack what it recovers from each method."""
    heads = ["Attack", *(_label(v["method"]) for v in found["verdicts"])]
    return [
        heads,
        *(
            [name, *(DASH if row is None else recovered(row) for row in rows)]
            for name, rows in zip(found["attacks"], matrix(found), strict=True)
        ),
    ]


def verdict_lines(found: Row) -> list[str]:
    """A sentence a method: the worst that the attacks found."""
    return [f"{_label(v['method'])}: {v['text']}." for v in found["verdicts"]]


def section(found: Row | None) -> dict[str, Any] | None:
    """What the page shows of attacks; None without any."""
    if not found or not found["attacks"]:
        return None
    verdicts = zip(found["verdicts"], verdict_lines(found), strict=True)
    return {
        "caption": CAPTION,
        "verdicts": [(CHIPS[v["word"]], v["word"], text) for v, text in verdicts],
        "methods": [_label(verdict["method"]) for verdict in found["verdicts"]],
        "matrix": [
            {"title": found["attacks"][name]["title"], "cells": list(map(_cell, rows))}
            for name, rows in zip(found["attacks"], matrix(found), strict=True)
        ],
        "details": [_details(row, found["attacks"]) for row in found["rows"]],
        "budgets": [{"name": k, **v} for k, v in found["attacks"].items()],
        "missing": found["missing"],
    }


def _label(method: str) -> str:
    return glossary.method_label({"role": "unlearned", "method": method})


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
        "method": _label(row["method"]),
        "attack": attack["title"],
        "values": [number(value) for value in values],
        "left": _percent(row["left"]),
        "recovered": recovered(row),
        "said": "; ".join(filter(None, said)),
        "unit": attack["unit"],
    }
