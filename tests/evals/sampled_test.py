"""The best of k draws against all subsets, and against independent draws."""

import itertools

import numpy as np
import pytest

from ofmu_jax.evals.language.sampled import leak_at_k

SCORES = np.array([[0.3, 0.9, 0.1, 0.3, 0.6], [0.0, 0.0, 0.0, 0.0, 1.0]])


def test_equals_the_mean_over_all_subsets():
    found = leak_at_k(SCORES)
    for row, curve in zip(SCORES, found, strict=True):
        for k in range(1, 6):
            subsets = itertools.combinations(row, k)
            assert curve[k - 1] == pytest.approx(np.mean([max(x) for x in subsets]))
    np.testing.assert_allclose(found[:, 0], SCORES.mean(1))
    np.testing.assert_allclose(found[:, -1], SCORES.max(1))
    np.testing.assert_allclose(found[1], np.arange(1, 6) / 5)  # one of five tells


def test_is_without_bias():
    """Of two values, 1 with probability p: the best of k is 1 with 1 − (1 − p)^k."""
    p, n = 0.2, 6
    draws = np.random.default_rng(0).random((20_000, n)) < p
    expected = 1 - (1 - p) ** np.arange(1, n + 1)
    error = 4 * 0.5 / 20_000**0.5
    np.testing.assert_allclose(leak_at_k(draws).mean(0), expected, atol=error)


def test_two_hundred_draws_as_in_the_paper():
    """The largest of 200 is among k of them with probability k / 200."""
    one = np.zeros((1, 200))
    one[0, 17] = 1.0
    np.testing.assert_allclose(leak_at_k(one)[0], np.arange(1, 201) / 200)


def test_refuses_what_is_not_rows_of_draws():
    for scores in (np.zeros(3), np.zeros((2, 0))):
        with pytest.raises(ValueError, match="rows of at least one draw"):
            leak_at_k(scores)
