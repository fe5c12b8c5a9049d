"""Membership inference against classifiers, as the vision unlearning papers report it.

An attacker who knows some training and some test images fits one support vector
machine per feature of the *unlearned* model's answers; its efficacy is the share of
forget images that it takes for images never trained on (`Jia et al. 2023`,
arXiv 2304.04934; features by Song & Mittal, arXiv 2003.10595). The goal is the
retrained model's value. Tables report the ``confidence`` feature.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.svm import SVC

from ofmu_jax.evals.language.scores import EvaluationError

Rows = tuple[np.ndarray, np.ndarray]  # probabilities (N, C), labels (N,)
TINY = 1e-30  # added to what a logarithm is taken of


def correctness(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where the most probable class is the label, (N, 1)."""
    return (p.argmax(1) == labels).astype(np.float64)[:, None]


def confidence(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of the label, (N, 1)."""
    return p[np.arange(len(p)), labels][:, None]


def entropy(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """−Σ p log p, (N, 1), in nats."""
    return -np.sum(p * np.log(np.maximum(p, TINY)), 1, keepdims=True)


def modified_entropy(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """−(1 − p_y) log p_y − Σ_{i≠y} p_i log(1 − p_i), (N, 1), in nats.

    Low where the model is sure *and* right. (Public code takes log p for log(1 − p)
    and indexes all rows at once.)

    >>> half = modified_entropy(np.array([[0.5, 0.5]]), np.array([0]))
    >>> half.round(4).tolist()  # ½ log 2 + ½ log 2
    [[0.6931]]
    """
    rows = np.arange(len(p))
    right = p[rows, labels]
    terms = p * np.log(np.maximum(1 - p, TINY))
    terms[rows, labels] = (1 - right) * np.log(np.maximum(right, TINY))
    return -terms.sum(1, keepdims=True)


def probability(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """All probabilities, (N, C)."""
    return p


_FEATURES = (correctness, confidence, entropy, modified_entropy, probability)
FEATURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    function.__name__: function for function in _FEATURES
}


def mia_efficacy(
    feature: str,
    *,
    members: Rows,
    non_members: Rows,
    forget: Rows,
    most: int | None = None,
) -> float:
    """Share of forget images that the attack takes for non-members.

    Args:
      feature: one of ``FEATURES``.
      members: retain images in the order of the data set, of which the first
        |non-members| are used.
      non_members: test images, of which the first |members| are used.
      forget: the forget images.
      most: use at most so many a side.

    Raises:
      EvaluationError: an unknown feature or an empty set.
    """
    if feature not in FEATURES:
        raise EvaluationError(
            f"attack feature {feature!r} is unknown; choose one of "
            f"{', '.join(FEATURES)}"
        )
    count = min(len(members[0]), len(non_members[0]), most or len(members[0]))
    if not count or not len(forget[0]):
        raise EvaluationError(
            "the attack needs members, non-members and forget images; one set is empty"
        )
    function = FEATURES[feature]
    shown = [function(p[:count].copy(), y[:count]) for p, y in (members, non_members)]
    machine: Any = SVC(C=3, gamma="auto", kernel="rbf")
    machine.fit(np.concatenate(shown), np.repeat([1, 0], count))
    taken_for_members = machine.predict(function(forget[0].copy(), forget[1]))
    return 1 - float(np.mean(taken_for_members))
