"""What is said in n draws: the most telling of k, without bias.

One greedy answer is a lower bound of what a model gives away: who may ask again takes
the best of several (leak@k, arXiv 2511.04934).
"""

import math

import numpy as np


def leak_at_k(scores_RxN) -> np.ndarray:
    r"""The expected best of k draws, for k = 1 … n, from n of them; of shape (R, n).

    With the scores in order, :math:`S_{(1)} ≤ … ≤ S_{(n)}`,

    .. math:: leak@k = \sum_{i=k}^{n} \binom{i-1}{k-1} / \binom{n}{k} S_{(i)},

    the mean of the largest over all subsets of k: without bias for
    E[max of k independent draws]. leak@1 is the mean, leak@n the largest.

    Args:
      scores_RxN: a score of every draw, such as its ROUGE; a row each.

    >>> print(leak_at_k([[0.0, 1.0, 0.5]]).round(3))
    [[0.5   0.833 1.   ]]
    """
    scores = np.sort(np.asarray(scores_RxN, np.float64), axis=-1)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"scores must be rows of at least one draw, got shape {scores.shape}"
        )
    return scores @ _weights(scores.shape[1])


def _weights(n: int) -> np.ndarray:
    """Of the i-th smallest of n scores (rows) in leak@k (columns)."""
    comb, every = math.comb, range(1, n + 1)
    # Integers of any size, divided at last: n = 200 needs no logarithms.
    return np.array([[comb(i - 1, k - 1) / comb(n, k) for k in every] for i in every])
