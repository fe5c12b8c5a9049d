"""Means over seeds, and how their numbers are written."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.report import glossary
from ofmu_jax.evals.intervals import seed_summary

DASH = "—"  # a value that is not there
# Of a model.
COSTS = ("seconds", "compile_seconds", "gradient_evaluations", "peak_bytes")
# What is shown first where room is short; the page has everything.
CORE = (
    *glossary.FORGET,
    *glossary.RETAIN,
    "eval_choice_accuracy",
    "adjacent_Q_A_Prob",
    "adjacent_accuracy",
    "adjacency_gap",
    "test_accuracy",
    "average_gap",
    "unlearning_accuracy",
    "mia_confidence",
    "model_utility",
    "forget_quality_ks",
    *glossary.LEAKS,
    "forget_truth_ratio",
    "mia_min_k",
    "forget_quality",
    "retain_Q_A_ROUGE",
)


def summarise(models: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with Student-t 95 % intervals, one row per method.

    Values that are null or not finite are left out, so ``n`` may be below ``seeds``;
    an interval needs two. The retrained reference comes first, then the target, then
    the methods in their order.

    >>> models = [
    ...     {"role": "unlearned", "method": "m", "seed": s, "metrics": {"x": x}}
    ...     for s, x in enumerate((1.0, 2.0, 3.0))
    ... ]
    >>> summarise(models)[0]["metrics"]["x"]["low"].__round__(3)
    -0.484
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for model in models:
        key = (model.get("run"), model["role"], model["method"])
        groups.setdefault(key, []).append(model)
    order = {role: i for i, role in enumerate(("retrained", "target", "unlearned"))}
    rows = []
    for (run, role, method), group in sorted(
        groups.items(), key=lambda g: order[g[0][1]]
    ):
        names = dict.fromkeys(name for m in group for name in m["metrics"])
        metrics = {
            name: statistic(m["metrics"].get(name) for m in group) for name in names
        }
        row = {"method": method, "role": role, "seeds": len(group), "metrics": metrics}
        for cost in COSTS:
            row[cost] = statistic(m.get(cost) for m in group)
        rows.append(row if run is None else {"run": run, **row})
    return rows


def statistic(values: Iterable[float | None]) -> dict[str, Any]:
    """Mean with Student's 95 % interval; what is absent or not finite is left out."""
    finite = [float(v) for v in values if v is not None and math.isfinite(v)]
    if not finite:
        return {"mean": None, "low": None, "high": None, "n": 0}
    found = seed_summary(finite)
    low, high = (None, None) if found.interval is None else found.interval
    return {"mean": found.mean, "low": low, "high": high, "n": found.n}


def number(value: float | None) -> str:
    """A value in at most eight characters; a dash if it is absent or not finite.

    >>> [number(v) for v in (0.12345, 1.9e-119, 5215.0, 0.0, None)]
    ['0.123', '2e-119', '5.2e+03', '0.000', '—']
    """
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size and size < 1e-3:
        return f"{value:.0e}"
    if size >= 1000:
        return f"{value:.1e}"
    return f"{value:.1f}" if size >= 10 else f"{value:.3f}"


def mean(stat: Mapping[str, Any] | None) -> float | None:
    """The mean of an entry of the summary; None if it or the entry is absent."""
    return None if stat is None else stat["mean"]


def present(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the metrics that have a value in some row of the summary."""
    measured = (row["metrics"].items() for row in rows)
    names = (n for metrics in measured for n, s in metrics if s["mean"] is not None)
    return list(dict.fromkeys(names))


def shared(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the metrics that have a value in every row; none without rows."""
    names = [set(present([row])) for row in rows]
    return set.intersection(*names) if names else set()


def mebibytes(stat: Mapping[str, Any] | None) -> str:
    """The mean of bytes in MiB; a dash if it is absent.

    >>> mebibytes({"mean": 3 * 2**20})
    '3.000'
    """
    size = mean(stat)
    return number(None if size is None else size / 2**20)


def half_width(stat: Mapping[str, Any] | None) -> float | None:
    """Half the interval of an entry of the summary; None without one, and for two
    seeds: Student's is 6.4 times what these are apart."""
    if not stat or stat.get("low") is None or stat.get("high") is None:
        return None
    if stat.get("n") == 2:
        return None
    return (stat["high"] - stat["low"]) / 2


def core_metrics(summary: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the core metrics that some row has, most important first.

    A report that has none of them shows its own metrics instead.
    """
    names = present(summary)
    chosen = (glossary.first_present([candidate], names) for candidate in CORE)
    return [n for n in chosen if n is not None] or glossary.ordered(names)


def cell(stat: Mapping[str, Any] | None) -> str:
    """A mean with its interval, such as ``0.123 ±0.045``; a dash if it is absent."""
    half, text = half_width(stat), number(mean(stat))
    return text if half is None else f"{text} ±{number(half)}"
