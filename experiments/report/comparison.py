"""The comparison of methods in words: gap, rank, verdicts and costs of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.report import glossary
from experiments.report.gaps import AGGREGATE
from experiments.report.summary import DASH, cell, mean, mebibytes, number
from experiments.report.words import count, spent

Row = Mapping[str, Any]
ADJACENCY = "adjacency gap →0"
LEAKED = tuple(f"{glossary.metric(n).label} (→ retrained)" for n in glossary.LEAKS)
HEADS = (
    "Method",
    "overall gap ↓",
    "rank, mean (range)",
    "P(first)",
    "Pareto front",
    "forget quality D ↓",
    "its p, range over seeds",
    *LEAKED,
    ADJACENCY,
    "like retrained (TOST)",
    "time",
    "gradient evaluations",
    "step memory, MiB",
)
# Metrics that are columns here.
MEASURED = dict(zip(glossary.LEAKS, LEAKED, strict=True))
MEASURED |= {"adjacency_gap": ADJACENCY, "forget_quality_ks": "forget quality D ↓"}
# Columns for a console, the most important first.
NARROW = (
    *HEADS[:2],
    ADJACENCY,
    *HEADS[2:4],
    LEAKED[0],
    HEADS[4],
    "gradient evaluations",
    "time",
)
NARROW += ("like retrained (TOST)",)


def comparison_rows(report: Row) -> list[list[str]]:
    """A row of texts per method under `HEADS`, in the order of the summary.

    Args:
      report: with its summary and comparison (`experiments.report.write.complete`).
    """
    compared = {
        (row.get("run"), row["method"]): row for row in report["comparison"]["methods"]
    }
    goals = {r.get("run"): r for r in report["summary"] if r["role"] == "retrained"}
    return [
        _texts(row, compared[row.get("run"), row["method"]], goals.get(row.get("run")))
        for row in report["summary"]
        if row["role"] == "unlearned"
    ]


def comparison_table(report: Row) -> list[list[str]]:
    """`HEADS` and the rows under them, without columns that say nothing anywhere.

    Returns:
      Nothing where there are no methods.
    """
    rows = comparison_rows(report)
    kept = [k for k in range(len(HEADS)) if any(row[k] != DASH for row in rows)]
    return [[row[k] for k in kept] for row in (HEADS, *rows)] if rows else []


def _texts(row: Row, compared: Row, goal: Row | None) -> list[str]:
    first, front = compared.get("first_probability"), compared.get("on_pareto_front")
    evaluations = mean(row.get("gradient_evaluations"))
    return [
        glossary.method_label(row),
        cell(row["metrics"].get(AGGREGATE)),
        _rank(compared["rank"]),
        DASH if first is None else f"{first:.2f}",
        DASH if front is None else ("yes" if front else "no"),
        cell(row["metrics"].get("forget_quality_ks")),
        _range(compared["forget_quality_p"]),
        *(_beside(row, goal, name) for name in glossary.LEAKS),
        cell(row["metrics"].get("adjacency_gap")),
        equivalence_text(compared.get("equivalence")),
        spent(mean(row.get("seconds")), mean(row.get("compile_seconds"))),
        DASH if evaluations is None else f"{evaluations:,.0f}",
        mebibytes(row.get("peak_bytes")),
    ]


def _beside(row: Row, goal: Row | None, name: str) -> str:
    """A mean with its interval, and the retrained model's mean.

    >>> entry = lambda x: {"metrics": {"a": {"mean": x, "low": None, "high": None}}}
    >>> _beside(entry(0.25), entry(0.5), "a")
    '0.250 (→ 0.500)'
    """
    found = cell(row["metrics"].get(name))
    target = None if goal is None else mean(goal["metrics"].get(name))
    return found if target is None else f"{found} (→ {number(target)})"


def _rank(rank: Row) -> str:
    if rank["mean"] is None:
        return DASH
    return f"{rank['mean']:.3g} ({rank['low']:g}–{rank['high']:g})"


def _range(spread: Row) -> str:
    if spread["mean"] is None:
        return DASH
    low, high = number(spread["low"]), number(spread["high"])
    return low if low == high else f"{low} – {high}"


def equivalence_text(found: Row | None) -> str:
    """The verdict of the equivalence tests with its margin.

    >>> found = {"margin": 0.05, "seeds_shown": 1, "seeds": 3, "p_value": 0.2}
    >>> equivalence_text(found | {"holds": False})
    'not shown: p 0.200 within ±0.05 (1 of 3 seeds alone)'
    """
    if found is None:
        return DASH
    margin, alone, holds = f"±{found['margin']:g}", found["seeds_shown"], found["holds"]
    verdict = "shown" if (alone if holds is None else holds) else "not shown"
    of = f"{alone} of {count(found['seeds'], 'seed')}"
    if holds is None:
        return f"{verdict} within {margin}, by {of}"
    return f"{verdict}: p {number(found['p_value'])} within {margin} ({of} alone)"


def agreement_text(report: Row) -> str:
    """How far the seeds agree on the order of the methods, in one line."""
    pairs = report["comparison"]["agreement"]
    parts = []
    for name in ("spearman", "kendall"):
        found = [pair[name] for pair in pairs if pair.get(name) is not None]
        if found:
            parts.append(
                f"{name.capitalize()} {np.mean(found):.2f} "
                f"({min(found):.2f} to {max(found):.2f})"
            )
    if not parts:
        return ""
    methods = len(report["comparison"]["methods"])
    by = glossary.metric(AGGREGATE).label
    return (
        f"Rank agreement between seeds, {methods} methods by {by}: "
        f"{', '.join(parts)}; mean and range over {count(len(pairs), 'pair')}."
    )


def agreement_rows(report: Row) -> Sequence[Sequence[str]]:
    """Two seeds and both correlations of their rankings, as texts."""
    return [
        [
            " and ".join(map(str, pair["seeds"])),
            number(pair.get("spearman")),
            number(pair.get("kendall")),
        ]
        for pair in report["comparison"]["agreement"]
    ]
