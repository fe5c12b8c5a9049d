"""How much of what was to go an attack recovers, by the yardstick of the same attack on
the retrained model.

With a* the value of a model under attack and a without it, M the unlearned model, R the
retrained one and T the target, all scored on the same rows,

    recovered = (a*(M) − a*(R)) / (a(T) − a(R)).

0: the attack finds no more than in a model that never saw the rows; 1: all that the
target told. A model that tells less than R has a value below 0, which is no merit.
Where rows are told from others, by an AUC, what leaks is the difference to that of R,
either way.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ofmu_jax.attacks.base import Found
from ofmu_jax.evals.intervals import Interval

RECOVERS, NONE, UNKNOWN = "recovers", "no recovery", "cannot tell"
WORDS = (RECOVERS, UNKNOWN, NONE)  # from bad to good
BEST = "no recovery under these attacks at this budget"  # nothing better can be said
MARGIN = 0.1  # of what was to go: less than that is no recovery
GAP = 0.02  # a target that leads the retrained model by less knew nothing to recover
SURE = 0.5  # of the lead: its interval begins above that, or no share is told
RESAMPLES = 2000


class Trio(NamedTuple):
    """The same attack on an unlearned model of one seed and on its yardsticks."""

    model: Found
    reference: Found | None = None
    target: Found | None = None


class Recovery(NamedTuple):
    """What an attack found, means over seeds; intervals over rows and seeds (95 %)."""

    before: float | None  # of the model without the attack
    left: float | None  # the share that this is: (a(M) − a(R)) / (a(T) − a(R))
    after: float  # at the point of its curve where most is told
    at: float  # that point, of the first seed
    reference: float | None  # under the same attack, at its own strongest point
    target: float | None
    recovered: float | None  # None: no yardstick, nothing to recover, or an AUC
    difference: float | None  # after − reference
    interval: Interval | None  # of ``recovered``, or of ``difference`` without it
    word: str  # one of `WORDS`


class _Means(NamedTuple):
    """Means over seeds on each of S draws of seeds and rows; (S,), None if unknown."""

    before: np.ndarray | None  # of the model without the attack
    after: np.ndarray
    above: np.ndarray | None  # by how much it is above the reference without it
    reference: np.ndarray | None  # under the attack
    target: np.ndarray | None
    gap: np.ndarray | None  # what was to go: target − reference, without the attack


def value(found: Found, point: int) -> float:
    """The value at a point of the curve: a mean, or an AUC.

    >>> ones, others = np.ones((1, 2)), np.array([[0.0, 3.0]])
    >>> value(Found((0,), ones), 0), value(Found((0,), ones, None, others), 0)
    (1.0, 0.5)
    """
    rows, holdout = _everything(found)
    return float(_values(found, point, rows, holdout)[0])


def strongest(found: Found) -> int:
    """The point of the curve at which most is told."""
    return int(np.argmax([value(found, point) for point in range(len(found.at))]))


def recovery(trios: Sequence[Trio], seed: int = 0) -> Recovery:
    """The recovery of one method by one attack.

    Args:
      trios: one a seed, all with or all without a reference and a target.
      seed: of the resamples.

    Raises:
      ValueError: for none at all, or models that were scored on other rows.
    """
    _check(trios)
    first = trios[0].model
    known = _means(trios, np.arange(len(trios))[None], *_everything(first))
    left = share = difference = interval = None
    if known.reference is not None:
        difference = known.after - known.reference
        drawn = _means(trios, *_drawn(trios, seed))
        sampled = drawn.after - drawn.reference
        if first.holdout is None and _lead(known.gap, drawn.gap):
            share, sampled = difference / known.gap, sampled / _at_least(drawn.gap)
            left = None if known.above is None else known.above / known.gap
        if len(trios) * first.scores.shape[1] > 1:  # one value has no spread
            interval = Interval(*map(float, np.quantile(sampled, [0.025, 0.975])))
    return Recovery(
        _number(known.before),
        _number(left),
        float(known.after[0]),
        float(first.at[strongest(first)]),
        _number(known.reference),
        _number(known.target),
        _number(share),
        _number(difference),
        interval,
        word(interval, two_sided=first.holdout is not None),
    )


def word(interval: Interval | None, *, two_sided: bool = False) -> str:
    """What an interval of a recovery shows.

    Args:
      two_sided: whether to be below the retrained model tells as much, as it does
        where rows are told from others.

    >>> word(Interval(0.2, 0.5)), word(Interval(-0.3, 0.05)), word(Interval(0.0, 0.2))
    ('recovers', 'no recovery', 'cannot tell')
    >>> word(Interval(-0.3, -0.2), two_sided=True), word(None)
    ('recovers', 'cannot tell')
    """
    if interval is None:
        return UNKNOWN
    low, high = interval
    if low > MARGIN or (two_sided and high < -MARGIN):
        return RECOVERS
    if high < MARGIN and (low > -MARGIN or not two_sided):
        return NONE
    return UNKNOWN


def _check(trios: Sequence[Trio]) -> None:
    if not trios:
        raise ValueError("no model was attacked; give a trio for each seed.")
    counts = {found.scores.shape[1] for trio in trios for found in trio if found}
    if len(counts) > 1:
        raise ValueError(
            f"the models were scored on {sorted(counts)} rows; attack all of them on "
            "the same ones."
        )


def _lead(gap: np.ndarray | None, drawn: np.ndarray | None) -> bool:
    """Whether the target knows more than the reference, and how much is known well
    enough to divide by."""
    if gap is None or drawn is None:
        return False
    return gap[0] >= GAP and np.quantile(drawn, 0.025) >= SURE * gap[0]


def _at_least(gap: np.ndarray | None) -> np.ndarray:
    """Leads of resamples; the few below `GAP`, which may be 0, are that."""
    assert gap is not None
    return np.maximum(gap, GAP)


def _everything(found: Found) -> tuple[np.ndarray, np.ndarray]:
    """All rows and all hold-out rows, once: (1, N) and (1, M)."""
    others = 0 if found.holdout is None else found.holdout.shape[1]
    return np.arange(found.scores.shape[1])[None], np.arange(others)[None]


def _drawn(trios: Sequence[Trio], seed: int) -> list[np.ndarray]:
    """Seeds, rows and hold-out rows with replacement, `RESAMPLES` times."""
    rng = np.random.default_rng(seed)
    sizes = len(trios), *(x.shape[1] for x in _everything(trios[0].model))
    return [rng.integers(max(n, 1), size=(RESAMPLES, n)) for n in sizes]


def _means(
    trios: Sequence[Trio], seeds: np.ndarray, rows: np.ndarray, holdout: np.ndarray
) -> _Means:
    def mean(role: str, of: Callable[..., np.ndarray]) -> np.ndarray | None:
        founds = [getattr(trio, role) for trio in trios]
        if any(found is None for found in founds):
            return None
        values = np.stack([of(found, rows, holdout) for found in founds], axis=1)
        return np.take_along_axis(values, seeds, axis=1).mean(axis=1)

    after, before = mean("model", _after), mean("model", _unaided)
    assert after is not None
    if trios[0].model.before is None:
        before = None
    target, reference = mean("target", _unaided), mean("reference", _unaided)
    return _Means(
        before,
        after,
        _less(before, reference),
        mean("reference", _after),
        mean("target", _after),
        _less(target, reference),
    )


def _less(values: np.ndarray | None, others: np.ndarray | None) -> np.ndarray | None:
    return None if values is None or others is None else values - others


def _after(found: Found, rows: np.ndarray, holdout: np.ndarray) -> np.ndarray:
    """Under the attack, where it tells most: (S,)."""
    return _values(found, strongest(found), rows, holdout)


def _unaided(found: Found, rows: np.ndarray, holdout: np.ndarray) -> np.ndarray:
    """Without it; where there is no such thing, under it: (S,)."""
    if found.before is None:
        return _after(found, rows, holdout)
    return found.before[rows].mean(axis=1)


def _values(
    found: Found, point: int, rows: np.ndarray, holdout: np.ndarray
) -> np.ndarray:
    """The mean of the drawn scores, or their AUC, Mann and Whitney's U / n m: (S,)."""
    drawn = found.scores[point][rows]
    if found.holdout is None:
        return drawn.mean(axis=1)
    both = np.concatenate([drawn, found.holdout[point][holdout]], axis=1)
    n, m = rows.shape[1], holdout.shape[1]
    ranks = stats.rankdata(both, axis=1)[:, :n].sum(axis=1)
    return (ranks - n * (n + 1) / 2) / (n * m)


def _number(values: np.ndarray | None) -> float | None:
    return None if values is None else float(values[0])
