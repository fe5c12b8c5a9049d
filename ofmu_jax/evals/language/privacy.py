"""Forget quality and membership-inference attacks.

Attack scores: higher = less like a training member. The AUC has label 0 for forget
rows and 1 for hold-out rows, so 1 is "perfectly memorised", 0.5 is chance and far
below 0.5 is over-unlearned, which leaks as much.

Sources: Maini et al. 2024 (KS test), Shi et al. 2024 (min-k, arXiv:2310.16789), Zhang
et al. 2024 (min-k++, arXiv:2404.02936), Shi et al. 2024 (privleak,
arXiv:2407.06460), with the conventions of open-unlearning.
"""

import zlib
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

from ofmu_jax.evals.language.metrics import EPSILON, answer_tokens
from ofmu_jax.evals.language.scores import EvaluationError, TokenScores

ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
MIN_K = 0.4  # share of tokens in TOFU and MUSE configurations


class ForgetQuality(NamedTuple):
    """Two-sample Kolmogorov–Smirnov test between truth ratios."""

    statistic: float  # D, largest distance between the two distributions, 0…1
    p_value: float  # the "forget quality" of TOFU
    num_model: int  # rows of the unlearned model
    num_reference: int  # rows of the retrained model


def forget_quality(model_ratios, reference_ratios) -> ForgetQuality:
    """KS test between the truth ratios of a model and of the retrained one.

    Two-sided, exact up to 10,000 rows; the order of rows and the choice between a
    ratio and its reciprocal do not matter. Read the p-value as a test, not as a score:
    two draws of one distribution give any value between 0 and 1 alike.

    Args:
      model_ratios: one per example, shape (N,).
      reference_ratios: those of the retrained model, shape (M,).

    Raises:
      EvaluationError: one of them is empty or holds NaN.

    >>> forget_quality([1.0, 2.0], [3.0, 4.0])[:2]
    (1.0, 0.3333333333333333)
    """
    model = _clean(model_ratios, "the model's truth ratios")
    reference = _clean(reference_ratios, "the reference's truth ratios")
    result = stats.ks_2samp(model, reference)
    return ForgetQuality(
        float(result.statistic), float(result.pvalue), len(model), len(reference)
    )


def loss_score(scores: TokenScores) -> float:
    """Loss attack: the mean loss in nats, end-of-sequence included."""
    return scores.avg_loss


def zlib_score(scores: TokenScores, answer: str) -> float:
    """Zlib attack: mean loss over the length in bytes of the compressed answer."""
    return scores.avg_loss / len(zlib.compress(answer.encode("utf-8")))


def reference_score(scores: TokenScores, reference: TokenScores) -> float:
    """Reference attack: mean loss minus that of a model which never saw the row."""
    return scores.avg_loss - reference.avg_loss


def min_k_score(scores: TokenScores, k: float = MIN_K) -> float:
    """Min-k attack: −mean of the lowest max(1, ⌊kN⌋) token log-probabilities."""
    return _negative_mean_of_lowest(answer_tokens(scores, "min-k").log_prob, k)


def min_k_plus_plus_score(scores: TokenScores, k: float = MIN_K) -> float:
    """Min-k++ attack: min-k on z = (log p − μ)/√σ² with σ² at least 1e-6."""
    answer = answer_tokens(scores, "min-k")
    deviation = np.sqrt(np.maximum(answer.variance, 1e-6))
    return _negative_mean_of_lowest((answer.log_prob - answer.mean) / deviation, k)


def auc(forget_scores, holdout_scores) -> float:
    """Area under the ROC curve, label 0 for forget and 1 for hold-out rows.

    >>> auc([0.1, 0.2], [0.3, 0.4])  # forget rows have the lower loss: memorised
    1.0
    """
    forget = _clean(forget_scores, "the attack's forget scores")
    holdout = _clean(holdout_scores, "the attack's hold-out scores")
    labels = [0] * len(forget) + [1] * len(holdout)
    values = np.concatenate([forget, holdout])
    return float(sklearn_metrics.roc_auc_score(labels, values))


def privleak(auc_model: float, auc_reference: float = 0.5) -> float:
    """Privacy leakage in per cent: ((1 − a) − (1 − r)) / ((1 − r) + 1e-10) · 100.

    Args:
      auc_model: a, min-k AUC of the unlearned model.
      auc_reference: r, that of the retrained model; without one the field takes 0.5
        for TOFU and 0.518 for MUSE.

    Returns:
      0 for a model like the retrained one, below 0 for under-unlearning.
    """
    for name, value in (("auc_model", auc_model), ("auc_reference", auc_reference)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be an AUC between 0 and 1, got {value}")
    reference = 1 - auc_reference
    return ((1 - auc_model) - reference) / (reference + EPSILON) * 100


def _negative_mean_of_lowest(values: np.ndarray, k: float) -> float:
    """−mean of the lowest max(1, ⌊kN⌋) of N values."""
    if not 0 < k <= 1:
        raise ValueError(f"k must be a share in (0, 1], got {k}")
    lowest = np.sort(values.astype(np.float64))[: max(1, int(len(values) * k))]
    return float(-np.mean(lowest))


def _clean(values, what: str) -> np.ndarray:
    """A non-empty float64 vector without NaN."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise EvaluationError(f"{what} must be a non-empty list, got {array.shape}")
    if np.any(np.isnan(array)):
        raise EvaluationError(
            f"{what} hold NaN at row {int(np.flatnonzero(np.isnan(array))[0])}: the "
            "model diverged; evaluate an earlier checkpoint"
        )
    return array
