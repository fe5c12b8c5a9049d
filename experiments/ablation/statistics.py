"""Numbers behind an ablation: means over seeds, paired differences, correlations."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.report import summary

Rows = Sequence[Mapping[str, Any]]


def statistic(values: Iterable[float | None]) -> dict[str, Any]:
    """`summary.statistic`, with the values it is of."""
    kept = [float(v) for v in values if v is not None and math.isfinite(v)]
    return {**summary.statistic(kept), "values": kept}


def paired(rows: Rows, ours: str, theirs: str, metric: str) -> dict[str, Any]:
    """Statistic over the common seeds of ``ours`` minus ``theirs``."""
    a, b = (by_seed(rows, key, metric) for key in (ours, theirs))
    return statistic(a[seed] - b[seed] for seed in a if seed in b)


def by_seed(rows: Rows, key: str, metric: str) -> dict[int, float]:
    """Seed -> a metric of one variant, where it is known."""
    return {
        row["seed"]: row["metrics"][metric]
        for row in rows
        if row["method"] == key and row["metrics"].get(metric) is not None
    }


def spearman(x, y) -> np.ndarray:
    """Spearman's correlation along the last axis; NaN where one does not vary.

    >>> spearman([1, 2, 3, 4], [1, 3, 2, 4]).round(3)
    np.float64(0.8)
    """
    a, b = (stats.rankdata(v, axis=-1) for v in (x, y))
    a, b = (v - v.mean(-1, keepdims=True) for v in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def correlation(x, y, resamples: int = 5000, seed: int = 0) -> dict[str, Any]:
    """Spearman's correlation with a bootstrap 95 % interval and a permutation p-value.

    The p-value is two-sided, and exact where there are no more permutations than
    ``resamples``. Without three points that vary there is none of them.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    found = _bootstrap(lambda at: spearman(x[at], y[at]), len(x), resamples, seed)
    if found["mean"] is None:
        return {**found, "p": None}
    test = stats.permutation_test(
        (x,),
        lambda v, axis: spearman(v, np.broadcast_to(y, v.shape)),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return {**found, "p": float(test.pvalue)}


def correlation_difference(
    x, y, other, resamples: int = 5000, seed: int = 0
) -> dict[str, Any]:
    """Spearman(x, y) − Spearman(x, other), both of the same resampled points."""
    x, y, other = (np.asarray(v, float) for v in (x, y, other))
    of = lambda at: spearman(x[at], y[at]) - spearman(x[at], other[at])
    return _bootstrap(of, len(x), resamples, seed)


def _bootstrap(of, size: int, resamples: int, seed: int) -> dict[str, Any]:
    """A statistic of points with its percentile interval, where it is defined.

    Args:
      of: indices of points, the last axis, to the statistic of each set of them.
    """
    value = float(of(np.arange(size))) if size >= 3 else math.nan
    if not math.isfinite(value):
        return {"mean": None, "low": None, "high": None, "n": size}
    rows = np.random.default_rng(seed).integers(size, size=(resamples, size))
    low, high = np.nanquantile(of(rows), [0.025, 0.975])
    return {"mean": value, "low": float(low), "high": float(high), "n": size}
