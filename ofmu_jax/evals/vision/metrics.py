"""Metrics of vision unlearning, from class probabilities alone.

UA = 1 − accuracy on forget images, RA and TA the accuracies on retain and test images,
all in evaluation mode without augmentation; MIA as `vision_mia` defines it; ZRF and
the divergence from the retrained model image by image. All are shares between 0 and 1
(the field's tables show them times 100). The goal of each is the value of the model
retrained without the forget images, so what counts is the average gap to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special, stats

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.evals.intervals import Interval, bootstrap_mean
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.evals.vision.attacks import FEATURES, mia_efficacy

GAP_METRICS = (
    "unlearning_accuracy",
    "retain_accuracy",
    "test_accuracy",
    "mia_confidence",
)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Class probabilities (N, C) of one model on the three sets, and the labels (N,).

    The retain images are in the order of the data set, which the attack relies on.
    """

    forget: np.ndarray
    retain: np.ndarray
    test: np.ndarray
    forget_labels: np.ndarray
    retain_labels: np.ndarray
    test_labels: np.ndarray


def probabilities(
    predict: Callable[[np.ndarray], Any], images: np.ndarray, batch_size: int
) -> np.ndarray:
    """Softmax probabilities (N, C), float64, batch by batch in one shape.

    Args:
      predict: images (B, H, W, C) -> logits (B, classes), in evaluation mode.
      images: (N, H, W, C).
      batch_size: B; the last batch is filled up with copies.

    Raises:
      EvaluationError: no images, or logits that are not finite.
    """
    if not len(images):
        raise EvaluationError("there are no images to evaluate on; give at least one")
    size = min(batch_size, len(images))
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        filled = np.concatenate([part, part[-1:].repeat(size - len(part), 0)])
        parts.append(np.asarray(predict(filled), np.float64)[: len(part)])
    logits = np.concatenate(parts)
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(1))[0])
        raise EvaluationError(
            f"logits of image {row} are not finite: the model diverged; lower the "
            "learning rate"
        )
    return special.softmax(logits, axis=1)


def accuracy(p: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose most probable class is the label."""
    return float(np.mean(p.argmax(1) == labels))


def accuracy_interval(p: np.ndarray, labels: np.ndarray) -> Interval:
    """Wilson's 95 % interval of the accuracy over images.

    >>> low, high = accuracy_interval(np.eye(2)[[0, 0]], np.array([0, 1]))  # 1 of 2
    >>> round(low, 3), round(high, 3)
    (0.095, 0.905)
    """
    right = int(np.sum(p.argmax(1) == labels))
    found = stats.binomtest(right, len(labels)).proportion_ci(0.95, method="wilson")
    return Interval(float(found.low), float(found.high))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen–Shannon divergence of each row in bits, (N,), between 0 and 1.

    A distribution with fewer classes gives the missing ones probability 0.

    >>> jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])).tolist()
    [1.0]
    """
    classes = max(p.shape[1], q.shape[1])
    p, q = (np.pad(x, ((0, 0), (0, classes - x.shape[1]))) for x in (p, q))
    middle = (p + q) / 2

    def divergence(x: np.ndarray) -> np.ndarray:
        ratio = np.divide(x, middle, out=np.ones_like(x), where=x > 0)
        return np.sum(x * np.log2(ratio), 1)

    return (divergence(p) + divergence(q)) / 2


def zero_retrain_forgetting(p: np.ndarray, untrained: np.ndarray) -> float:
    """ZRF = 1 − mean JS(model, untrained network) on forget images, in bits.

    Chundawat et al. (arXiv 2205.08096): near 1 the model answers as if at random. The
    goal is the retrained model's value, not 1.
    """
    return 1 - float(jensen_shannon(p, untrained).mean())


def evaluate_vision(
    model: Predictions,
    *,
    untrained_forget: np.ndarray,
    reference: Mapping[str, float] | None = None,
    reference_forget: np.ndarray | None = None,
    attack_rows: int | None = None,
    adjacent: Sequence[int] = (),
) -> tuple[dict[str, float], dict[str, Interval]]:
    """All metrics of one model, and 95 % intervals over images.

    Args:
      untrained_forget: probabilities of a freshly initialised network on the forget
        images, for ZRF.
      reference: the metrics of the retrained model, for the average gap.
      reference_forget: its probabilities on the forget images.
      adjacent: labels of classes close to the forgotten one; their test images are
        scored on their own, and the adjacency gap is their accuracy less the retrained
        model's: below 0, forgetting took the neighbours along.
      attack_rows: at most so many images a side in the attack; None: as many as there
        are test images.
    """
    rows = {
        name: (getattr(model, name), getattr(model, f"{name}_labels"))
        for name in ("forget", "retain", "test")
    }
    metrics, intervals = {}, {}
    for name, both in rows.items():
        metrics[f"{name}_accuracy"] = accuracy(*both)
        intervals[f"{name}_accuracy"] = low, high = accuracy_interval(*both)
        if name == "forget":
            metrics["unlearning_accuracy"] = 1 - metrics["forget_accuracy"]
            intervals["unlearning_accuracy"] = Interval(1 - high, 1 - low)
    for feature in FEATURES:
        metrics[f"mia_{feature}"] = mia_efficacy(
            feature,
            members=rows["retain"],
            non_members=rows["test"],
            forget=rows["forget"],
            most=attack_rows,
        )
    metrics["zrf"] = zero_retrain_forgetting(model.forget, untrained_forget)
    if reference_forget is not None:
        apart = jensen_shannon(model.forget, reference_forget)
        metrics["forget_js_divergence"] = float(apart.mean())
        found = bootstrap_mean(apart, num_resamples=500, method="percentile")
        if found is not None:
            intervals["forget_js_divergence"] = found
    if adjacent:
        near = np.isin(model.test_labels, adjacent)
        both = model.test[near], model.test_labels[near]
        metrics["adjacent_accuracy"] = accuracy(*both)
        intervals["adjacent_accuracy"] = accuracy_interval(*both)
    if reference is not None:
        metrics["average_gap"] = average_gap(metrics, reference)
        if adjacent:
            gap = metrics["adjacent_accuracy"] - reference["adjacent_accuracy"]
            metrics["adjacency_gap"] = gap
    return metrics, intervals


def average_gap(model: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Mean of |model − retrained| over UA, RA, TA and the confidence MIA.

    >>> one = dict.fromkeys(GAP_METRICS, 1.0)
    >>> average_gap(one, one | {"test_accuracy": 0.8})
    0.04999999999999999
    """
    return float(np.mean([abs(model[m] - reference[m]) for m in GAP_METRICS]))


def trial_score(metrics: Mapping[str, float]) -> float:
    """The average gap; where adjacent classes are scored, theirs is a fifth part of it.

    >>> trial_score({"average_gap": 0.1}), trial_score({"average_gap": 0.1,
    ...     "adjacency_gap": -0.6})
    (0.1, 0.2)
    """
    if "adjacency_gap" not in metrics:
        return metrics["average_gap"]
    parts, near = len(GAP_METRICS), abs(metrics["adjacency_gap"])
    return (parts * metrics["average_gap"] + near) / (parts + 1)


def predictions(
    predict: Callable[[np.ndarray], Any],
    forget: Labelled,
    retain: Labelled,
    test: Labelled,
    batch_size: int,
) -> Predictions:
    """The model's probabilities on the three sets."""
    find = lambda part: probabilities(predict, part.images, batch_size)
    sets = (forget, retain, test)
    return Predictions(*map(find, sets), *(part.labels for part in sets))
