"""Which method comes first, how sure that is, and which are worth choosing at all.

All of it is by ``overall_gap`` (`experiments.report.gaps`), the less the better, on the
seeds for which every method has a value.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.report import glossary
from experiments.report.gaps import AGGREGATE, FORGET_GAP, UTILITY
from experiments.report.summary import mean, shared, summarise
from ofmu_jax.evals.intervals import equivalence_test
from ofmu_jax.evals.language.comparison import PAIRED

Row = Mapping[str, Any]
Key = tuple[str | None, str]  # run, method
ALPHA, MARGIN = 0.05, 0.05  # of the equivalence test
EXACT = 5  # seeds up to which every resample is enumerated
RESAMPLES = 10_000
CORRELATIONS = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}


def compare(models: Sequence[Row]) -> dict[str, Any]:
    """The ``comparison`` of a report, from its models with their gaps."""
    methods = _methods(models)
    seeds, scores = score_table(models, list(methods))
    places = ranks(scores)
    first = first_probability(scores)
    front = front_of(summarise(models))
    rows = []
    for index, ((run, name), group) in enumerate(methods.items()):
        quality = (m["metrics"].get("forget_quality") for m in group)
        row = {
            "method": name,
            "rank": _spread(places[:, index]),
            "first_probability": None if first is None else float(first[index]),
            "on_pareto_front": front.get((run, name)),
            "equivalence": equivalence(group),
            "forget_quality_p": _spread(quality),
        }
        rows.append(row if run is None else {"run": run, **row})
    return {
        "aggregate": AGGREGATE,
        "seeds": seeds,
        "methods": rows,
        "agreement": agreement(seeds, scores),
    }


def _methods(models: Sequence[Row]) -> dict[Key, list[Row]]:
    """(run, method) -> its models, in the order of the report."""
    groups: dict[Key, list[Row]] = {}
    for model in models:
        if model["role"] == "unlearned":
            groups.setdefault((model.get("run"), model["method"]), []).append(model)
    return groups


def score_table(
    models: Sequence[Row], methods: Sequence[Key]
) -> tuple[list[int], np.ndarray]:
    """Seeds for which all methods have a score, and the scores, (seeds, methods)."""
    found = {
        (model.get("run"), model["method"], model["seed"]): value
        for model in models
        if model["role"] == "unlearned"
        and (value := model["metrics"].get(AGGREGATE)) is not None
    }
    seeds = sorted(
        seed
        for seed in {model["seed"] for model in models}
        if methods and all((*method, seed) in found for method in methods)
    )
    rows = [[found[(*method, seed)] for method in methods] for seed in seeds]
    return seeds, np.array(rows, float).reshape(len(seeds), len(methods))


def ranks(scores: np.ndarray) -> np.ndarray:
    """Places per seed, 1 the least score; ties share the mean of their places.

    >>> ranks(np.array([[0.1, 0.3, 0.1]]))
    array([[1.5, 3. , 1.5]])
    """
    return stats.rankdata(scores, axis=1) if scores.size else scores


def first_probability(scores: np.ndarray) -> np.ndarray | None:
    """Bootstrap probability per method of having the least mean score.

    Whole seeds are resampled, so that methods stay paired; up to five seeds every
    resample is counted, beyond that 10 000 are drawn. Ties share their probability.

    Returns:
      Shape (methods,); None with fewer than two seeds or methods.

    >>> first_probability(np.array([[1.0, 2.0], [4.0, 2.0]]))  # 3/4: mean 2.5 or 4
    array([0.25, 0.75])
    """
    count, methods = scores.shape
    if count < 2 or methods < 2:
        return None
    if count <= EXACT:
        drawn = np.array(list(itertools.product(range(count), repeat=count)))
    else:
        rng = np.random.default_rng(0)
        drawn = rng.integers(count, size=(RESAMPLES, count))
    means = scores[drawn].mean(axis=1)
    best = np.isclose(means, means.min(axis=1, keepdims=True), rtol=1e-12, atol=0)
    return (best / best.sum(axis=1, keepdims=True)).mean(axis=0)


def agreement(seeds: Sequence[int], scores: np.ndarray) -> list[dict[str, Any]]:
    """Rank correlations of the methods between every two seeds.

    1 = the same order, −1 = the reverse; null where all methods tie.
    """
    if scores.shape[1] < 2:
        return []
    found = []
    for a, b in itertools.combinations(range(len(seeds)), 2):
        row: dict[str, Any] = {"seeds": [seeds[a], seeds[b]]}
        constant = any(np.ptp(scores[i]) == 0 for i in (a, b))
        for name, test in CORRELATIONS.items():
            row[name] = None if constant else float(test(*scores[[a, b]]).statistic)
        found.append(row)
    return found


def _spread(values) -> dict[str, Any]:
    """Mean, least and most of the values that are there."""
    known = [float(v) for v in values if v is not None and math.isfinite(v)]
    if not known:
        return {"mean": None, "low": None, "high": None, "n": 0}
    return {
        "mean": float(np.mean(known)),
        "low": min(known),
        "high": max(known),
        "n": len(known),
    }


def pareto(points: Mapping[Any, tuple[float, float]]) -> set[Any]:
    """Keys of the points that no other beats: (cost, gain), less cost, more gain.

    >>> sorted(pareto({"a": (0.1, 0.5), "b": (0.2, 0.6), "c": (0.3, 0.6)}))
    ['a', 'b']
    """

    def beaten(key) -> bool:
        cost, gain = points[key]
        return any(
            c <= cost and g >= gain and (c, g) != (cost, gain)
            for c, g in points.values()
        )

    return {key for key in points if not beaten(key)}


def front_of(
    summary: Sequence[Row], cost: str = FORGET_GAP, gain: str | None = None
) -> dict[Key, bool]:
    """Which methods' means no other method's beat in both; those with both values."""
    rows = [row for row in summary if row["role"] == "unlearned"]
    gain = gain or utility_of(rows)
    points = {}
    for row in rows:
        x, y = (mean(row["metrics"].get(name)) for name in (cost, gain))
        if x is not None and y is not None:
            points[row.get("run"), row["method"]] = x, y
    front = pareto(points)
    return {key: key in front for key in points}


def utility_of(summary: Sequence[Row]) -> str | None:
    """The metric that stands for utility in all rows."""
    return glossary.first_present(UTILITY, shared(summary))


def equivalence(models: Sequence[Row]) -> dict[str, Any] | None:
    """Whether a method is shown to be like the retrained model, rows and seeds alike.

    Per seed the evaluation tests its rows (``indistinguishable_from_reference``).
    Over seeds two one-sided t tests (TOST) ask whether the mean difference of each
    tested quantity lies within the margin; all must, so the p-value is the largest.

    Returns:
      None where no model has differences; ``p_value`` and ``holds`` are null with a
      single seed.
    """
    names = [f"{name}_difference" for name in PAIRED]
    values = [[m["metrics"].get(name) for name in names] for m in models]
    verdicts = [m["metrics"].get("indistinguishable_from_reference") for m in models]
    verdicts = [v for v in verdicts if v is not None]
    if not verdicts:
        return None
    margin = next((x for m in models if (x := m.get("equivalence_margin"))), MARGIN)
    complete = all(v is not None and math.isfinite(v) for row in values for v in row)
    p_value = None
    if len(models) > 1 and complete:
        p_value = max(
            equivalence_test(column, np.zeros(len(column)), margin=margin).p_value
            for column in np.array(values, float).T
        )
    return {
        "margin": margin,
        "p_value": p_value,
        "holds": None if p_value is None else p_value < ALPHA,
        "seeds_shown": int(sum(v > 0 for v in verdicts)),
        "seeds": len(verdicts),
    }
