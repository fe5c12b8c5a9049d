"""Recovered shares against numbers on paper."""

import numpy as np
import pytest

from ofmu_jax.attacks import recovery
from ofmu_jax.attacks.base import Found
from ofmu_jax.attacks.recovery import Trio


def found(before, *after, holdout=None, rows=10):
    """Every row has the same score, so that no resample differs."""
    scores = np.outer(after, np.ones(rows))
    return Found(tuple(range(len(after))), scores, before * np.ones(rows), holdout)


def test_half_of_what_was_to_go():
    """Target 0.9, retrained 0.1 (0.2 under attack), unlearned 0.1 → 0.6 at its
    strongest point: (0.6 − 0.2) / (0.9 − 0.1) = 0.5."""
    trio = Trio(found(0.1, 0.3, 0.6, 0.5), found(0.1, 0.2), found(0.9, 0.95))
    result = recovery.recovery([trio])
    assert result.at == 1 and result.word == recovery.RECOVERS
    numbers = result.before, result.after, result.reference, result.target
    np.testing.assert_allclose(numbers, (0.1, 0.6, 0.2, 0.95))
    np.testing.assert_allclose((result.recovered, result.difference), (0.5, 0.4))
    assert result.left == 0  # without an attack it is where the retrained model is
    np.testing.assert_allclose(result.interval, (0.5, 0.5))


def test_like_the_retrained_model_is_no_recovery():
    trio = Trio(found(0.1, 0.2), found(0.1, 0.2), found(0.9, 0.9))
    assert recovery.recovery([trio]).word == recovery.NONE


def test_rows_that_disagree_leave_it_open():
    """Of eight rows one comes back whole: mean 1/8, and no row in a third of all
    resamples."""
    scores = np.eye(8)[:1]
    trio = Trio(
        Found((0,), scores, np.zeros(8)),
        found(0.0, 0.0, rows=8),
        found(1.0, 1.0, rows=8),
    )
    result = recovery.recovery([trio])
    assert result.recovered == 1 / 8 and result.word == recovery.UNKNOWN
    assert result.interval is not None
    assert result.interval.low == 0.0 and 0.25 < result.interval.high < 0.5


def test_seeds_are_drawn_too():
    """One seed recovers nothing, the other all: every third resample has but one."""
    yardsticks = found(0.0, 0.0), found(1.0, 1.0)
    trios = [Trio(found(0.0, x), *yardsticks) for x in (0.0, 1.0)]
    result = recovery.recovery(trios)
    assert result.recovered == 0.5 and result.interval == (0.0, 1.0)
    assert result.word == recovery.UNKNOWN


@pytest.mark.parametrize("target", [None, found(0.11, 0.5)])
def test_without_a_target_that_knew_more_it_is_a_difference(target):
    result = recovery.recovery([Trio(found(0.1, 0.4), found(0.1, 0.1), target)])
    assert result.recovered is None
    np.testing.assert_allclose(result.difference, 0.3)
    np.testing.assert_allclose(result.interval, (0.3, 0.3))


def test_without_a_reference_nothing_is_said():
    result = recovery.recovery([Trio(found(0.1, 0.4))])
    assert (result.after, result.interval) == (0.4, None)
    assert result.word == recovery.UNKNOWN


def test_rows_against_rows_no_model_saw_are_an_auc():
    """All forget rows above all others: 1; retrained alike: 1/2; two-sided."""
    others = np.array([[0.0, 1.0]])
    model = lambda *scores: Found((0,), np.array([scores]), None, others)
    far, alike, below = model(2.0, 3.0), model(0.0, 1.0), model(-2.0, -1.0)
    result = recovery.recovery([Trio(far, alike, far)])
    assert (result.before, result.after, result.reference) == (None, 1.0, 0.5)
    assert recovery.value(below, 0) == 0.0
    assert recovery.word(recovery.Interval(-0.5, -0.2), two_sided=True) == "recovers"


def test_other_rows_are_refused():
    with pytest.raises(ValueError, match="scored on \\[3, 10\\] rows"):
        recovery.recovery([Trio(found(0.1, 0.2), found(0.1, 0.2, rows=3))])


def test_a_lead_that_hangs_on_single_rows_is_nothing_to_divide_by():
    """The target knows one row of ten: some resamples have none of it."""
    one = Found((0,), np.eye(10)[:1], np.eye(10)[0])
    result = recovery.recovery([Trio(found(0.0, 0.5), found(0.0, 0.0), one)])
    assert (result.recovered, result.difference, result.interval) == (
        *(None, 0.5),
        (0.5, 0.5),
    )
