"""Scores that the field puts together from metrics: memory, privacy, utility.

As open-unlearning (arXiv 2506.12618) and the unlearning depth score (UDS, arXiv
2605.24614) define them; every one is a harmonic mean, so that the worst part decides,
and 0 as soon as one part is.
"""

from scipy import stats

from ofmu_jax.evals.language.scores import EvaluationError


def memorization_score(
    *,
    extraction_strength: float,
    exact_memorization: float,
    paraphrase_probability: float,
    truth_ratio_prob_mean: float,
) -> float:
    """Mem: harmonic mean of 1 − each; 1 = nothing of the forget rows is left.

    Args:
      extraction_strength: mean over the forget rows, as every argument; in [0, 1].
      exact_memorization: share of answer tokens predicted right.
      paraphrase_probability: exp(−ℓ) of the paraphrased answers.
      truth_ratio_prob_mean: the truth ratio c / (c + w) ("prob_mean").

    Raises:
      EvaluationError: a part that is outside [0, 1].

    >>> parts = dict(extraction_strength=0, exact_memorization=0.5)
    >>> memorization_score(**parts, paraphrase_probability=0, truth_ratio_prob_mean=0.5)
    0.6666666666666666
    """
    parts = {
        "extraction strength": extraction_strength,
        "exact memorisation": exact_memorization,
        "paraphrase probability": paraphrase_probability,
        "truth ratio": truth_ratio_prob_mean,
    }
    return _harmonic({f"1 − {name}": 1 - value for name, value in parts.items()})


def attack_similarity(
    *, loss: float, zlib: float, min_k: float, min_k_pp: float
) -> float:
    """Harmonic mean of how like the retrained model's each attack's AUC is; 0 … 1.

    Raises:
      EvaluationError: a part that is outside [0, 1].
    """
    return _harmonic({"loss": loss, "zlib": zlib, "min-k": min_k, "min-k++": min_k_pp})


def privacy_score(*, attacks: float, depth: float) -> float:
    """Priv of UDS: harmonic mean of `attack_similarity` and the depth score.

    Open-unlearning's Priv is the first of them alone.
    """
    return _harmonic({"attack similarity": attacks, "depth score": depth})


def fluent_utility(*, model_utility: float, fluency: float) -> float:
    """Util: harmonic mean of model utility and fluency (the share without gibberish).

    Raises:
      EvaluationError: a part that is outside [0, 1].
    """
    return _harmonic({"model utility": model_utility, "fluency": fluency})


def relative_utility(utility: float, target: float) -> float:
    """`fluent_utility` as a share of the model's before unlearning, at most 1.

    >>> relative_utility(0.35, 0.7), relative_utility(0.9, 0.7)
    (0.5, 1.0)
    """
    if not target > 0:
        raise EvaluationError(
            f"utility relative to a model of utility {target} is undefined; it must "
            "be > 0"
        )
    return min(1.0, utility / target)


def overall_score(*, memorization: float, privacy: float, utility: float) -> float:
    """Overall of UDS: harmonic mean of Mem, Priv and relative Util."""
    return _harmonic({"Mem": memorization, "Priv": privacy, "Util": utility})


def _harmonic(parts: dict[str, float]) -> float:
    for name, value in parts.items():
        if not 0 <= value <= 1:  # also catches NaN
            raise EvaluationError(f"{name} is {value}; it must be from 0 to 1")
    return float(stats.hmean(list(parts.values())))
