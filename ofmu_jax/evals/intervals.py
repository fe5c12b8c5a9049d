"""Uncertainty of every reported number: bootstrap, seeds and equivalence tests."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """Lower and upper end of a confidence interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class SeedSummary:
    """Mean over independent runs and its Student-t interval."""

    mean: float
    std: float | None  # sample standard deviation (n − 1); None for one run
    interval: Interval | None  # None for one run: nothing to estimate a spread from
    n: int


@dataclasses.dataclass(frozen=True)
class EquivalenceResult:
    """Two one-sided tests (TOST) that a mean paired difference is within ±margin."""

    difference: float  # mean of model − reference
    interval: Interval  # confidence 1 − 2·alpha: equivalent iff inside ±margin
    p_value: float  # the larger of the two one-sided p-values
    margin: float
    alpha: float
    n: int

    @property
    def equivalent(self) -> bool:
        """Whether the difference is shown to be smaller than the margin."""
        return self.p_value < self.alpha


def bootstrap_mean(
    values,
    *,
    confidence: float = 0.95,
    method: Literal["bca", "percentile"] = "bca",
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Bootstrap interval of a mean over examples; None for a single example.

    Args:
      values: per-example values, shape (N,).
      confidence: coverage, such as 0.95.
      method: "bca" (bias-corrected and accelerated, Efron 1987) or "percentile". Where
        the correction is undefined, as with nearly constant values, "bca" is the
        percentile interval, to which it tends.
      seed: equal seeds give equal intervals.
    """
    values = _vector(values, "values")
    if method not in ("bca", "percentile"):
        raise ValueError(f"method must be 'bca' or 'percentile', got {method!r}")
    if len(values) < 2:
        return None
    if np.all(values == values[0]):
        return Interval(float(values[0]), float(values[0]))

    def interval(kind: str) -> Interval:
        with np.errstate(invalid="ignore", divide="ignore"):
            result = stats.bootstrap(
                (values,),
                np.mean,
                confidence_level=confidence,
                n_resamples=num_resamples,
                method=kind,
                rng=np.random.default_rng(seed),
            )
        low, high = result.confidence_interval
        return Interval(float(low), float(high))

    found = interval("BCa" if method == "bca" else "percentile")
    return found if np.all(np.isfinite(found)) else interval("percentile")


def paired_bootstrap(values, reference, **options) -> Interval | None:
    """Bootstrap interval of mean(values − reference), row against row.

    Pairing takes out the spread between questions, so it is tighter than two
    intervals side by side. `options` are those of `bootstrap_mean`.
    """
    return bootstrap_mean(_differences(values, reference), **options)


def bootstrap_auc(
    forget_scores,
    holdout_scores,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """Percentile interval of an attack's AUC, both groups resampled."""
    forget = _vector(forget_scores, "forget_scores")
    holdout = _vector(holdout_scores, "holdout_scores")
    if len(forget) < 2 or len(holdout) < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(forget), size=(num_resamples, len(forget)))
    others = rng.integers(len(holdout), size=(num_resamples, len(holdout)))
    values = np.concatenate([forget[rows], holdout[others]], axis=1)
    # AUC = U / (n·m) with U the Mann–Whitney statistic of the hold-out group.
    ranks = stats.rankdata(values, axis=1)[:, len(forget) :].sum(axis=1)
    u = ranks - len(holdout) * (len(holdout) + 1) / 2
    return _percentiles(u / (len(forget) * len(holdout)), confidence)


def bootstrap_utility(
    terms: Mapping[str, Sequence[float]],
    *,
    groups: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a harmonic mean of means, examples resampled.

    Args:
      terms: name of a term -> its per-example values, all ≥ 0.
      groups: name of a term -> name of the set its rows come from. Terms of one set
        are resampled with the same rows, since they are correlated; without groups
        every term is resampled by itself.
    """
    if not terms:
        raise ValueError("terms is empty; give the per-example values of each term")
    rng = np.random.default_rng(seed)
    drawn: dict[str, np.ndarray] = {}
    means = []
    for name, values in terms.items():
        array = _vector(values, name)
        group = name if groups is None else groups[name]
        if group not in drawn:
            drawn[group] = rng.integers(len(array), size=(num_resamples, len(array)))
        if drawn[group].shape[1] != len(array):
            raise ValueError(
                f"{name} has {len(array)} rows, other terms of set {group!r} have "
                f"{drawn[group].shape[1]}; give every term of a set the same rows"
            )
        means.append(array[drawn[group]].mean(axis=1))
    return _percentiles(stats.hmean(np.stack(means), axis=0), confidence)


def seed_summary(values, *, confidence: float = 0.95) -> SeedSummary:
    """Mean ± Student-t interval over runs that differ in their seed only.

    >>> summary = seed_summary([1.0, 2.0, 3.0])
    >>> summary.mean, [round(end, 3) for end in summary.interval]
    (2.0, [-0.484, 4.484])
    >>> seed_summary([1.0]).interval is None
    True
    """
    values = _vector(values, "values")
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return SeedSummary(mean, None, None, 1)
    std = float(values.std(ddof=1))
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * std / math.sqrt(n)
    return SeedSummary(mean, std, Interval(mean - half, mean + half), n)


def equivalence_test(
    values, reference, *, margin: float, alpha: float = 0.05
) -> EquivalenceResult:
    """TOST of paired per-example values: is the model like the retrained one?

    A large KS p-value only fails to find a difference, the more so the fewer rows
    there are; this test has to *show* that the mean difference lies within ±margin
    (Schuirmann 1987).

    Args:
      values: per-example values of the model, shape (N,), N ≥ 2.
      reference: those of the retrained model on the same rows in the same order.
      margin: largest difference that counts as none, in the unit of the values.
      alpha: level of each one-sided test.

    >>> same = equivalence_test([0.1, 0.2, 0.3], [0.11, 0.19, 0.3], margin=0.1)
    >>> same.equivalent
    True
    """
    if not margin > 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    differences = _differences(values, reference)
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        raise ValueError("an equivalence test needs at least 2 rows, got 1")
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf(1 - alpha, n - 1)) * error
    if error > 0:
        lower = stats.t.sf((mean + margin) / error, n - 1)
        upper = stats.t.cdf((mean - margin) / error, n - 1)
        p_value = float(max(lower, upper))
    else:  # every row differs by the same amount: certain either way
        p_value = 0.0 if abs(mean) < margin else 1.0
    interval = Interval(mean - half, mean + half)
    return EquivalenceResult(mean, interval, p_value, margin, alpha, n)


def _differences(values, reference) -> np.ndarray:
    """values − reference, row by row."""
    values, reference = _vector(values, "values"), _vector(reference, "reference")
    if len(values) != len(reference):
        raise ValueError(
            f"pairing needs equal rows, got {len(values)} and {len(reference)}; "
            "evaluate both models on the same questions"
        )
    return values - reference


def _percentiles(samples: np.ndarray, confidence: float) -> Interval:
    """The central interval that holds `confidence` of the samples."""
    low, high = np.quantile(samples, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(low), float(high))


def _vector(values, name: str) -> np.ndarray:
    """A non-empty finite float64 vector."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must be a non-empty list, got shape {array.shape}")
    if not np.all(np.isfinite(array)):
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} is {array[row]} at row {row}, must be finite: the model diverged; "
            "evaluate an earlier checkpoint"
        )
    return array
