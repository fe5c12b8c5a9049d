"""TOFU metrics of memorisation and utility, in every definition in circulation.

All functions are numpy on the host. A *loss* is the mean negative log-likelihood per
answer token in nats, end-of-sequence included (`TokenScores.avg_loss`).

Sources: Maini et al. 2024 (TOFU, arXiv:2401.06121), its code locuslab/tofu, and
open-unlearning (Dorna et al. 2025, arXiv:2506.12618), whose conventions are the
default.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from rouge_score import rouge_scorer
from scipy import stats

from ofmu_jax.evals.language.scores import EvaluationError, TokenScores

EPSILON = 1e-10  # keeps the denominators of open-unlearning positive

TruthRatioVariant = Literal["geometric", "legacy_reciprocal", "arithmetic", "prob_mean"]
TRUTH_RATIO_VARIANTS: tuple[TruthRatioVariant, ...] = get_args(TruthRatioVariant)

UTILITY_TERMS = (
    *("retain_Q_A_Prob", "retain_Q_A_ROUGE", "retain_Truth_Ratio"),
    *("ra_Q_A_Prob_normalised", "ra_Q_A_ROUGE", "ra_Truth_Ratio"),
    *("wf_Q_A_Prob_normalised", "wf_Q_A_ROUGE", "wf_Truth_Ratio"),
)


def probability(losses) -> np.ndarray:
    """Length-normalised probability exp(−ℓ) of each answer, shape of `losses`.

    >>> probability([0.0, np.log(4)]).tolist()
    [1.0, 0.25]
    """
    return np.exp(-np.asarray(losses, np.float64))


def probability_w_options(correct_losses, wrong_losses) -> np.ndarray:
    """Probability of the right option among the options offered.

    p_c / (p_c + Σ_k p_k + 1e-10) with length-normalised probabilities, as
    open-unlearning computes it (the paper writes raw probabilities).

    Args:
      correct_losses: loss of the right option, shape (N,).
      wrong_losses: for each row the losses of its wrong options, K may vary.
    """
    correct_losses, wrong_losses = _check_rows(correct_losses, wrong_losses)
    correct = probability(correct_losses)
    wrong = np.array([probability(losses).sum() for losses in wrong_losses])
    return correct / (correct + wrong + EPSILON)


def truth_ratio(
    correct_losses, wrong_losses, variant: TruthRatioVariant = "geometric"
) -> np.ndarray:
    """Truth ratio of each row in one of its four published definitions.

    With ℓ_c the loss of the right text and ℓ_k those of K perturbed texts:

    - "geometric" (open-unlearning): exp(−mean_k ℓ_k) / (exp(−ℓ_c) + 1e-10);
    - "legacy_reciprocal" (locuslab/tofu aggregate_eval_stat.py):
      exp(mean_k ℓ_k − ℓ_c), the reciprocal of the first;
    - "arithmetic" (locuslab/tofu utils.py, used during training):
      mean_k exp(−ℓ_k) / (exp(−ℓ_c) + 1e-10);
    - "prob_mean" (open-unlearning, its memorisation score):
      c / (c + w + 1e-10) with c and w the two parts of "geometric".

    Args:
      correct_losses: ℓ_c, shape (N,).
      wrong_losses: for each row its ℓ_k; K may vary from row to row.
      variant: one of `TRUTH_RATIO_VARIANTS`.

    >>> wrong = -np.log([[0.1, 0.4]])
    >>> for variant in TRUTH_RATIO_VARIANTS:
    ...     print(variant, truth_ratio(-np.log([0.5]), wrong, variant).round(3))
    geometric [0.4]
    legacy_reciprocal [2.5]
    arithmetic [0.5]
    prob_mean [0.714]
    """
    correct_losses, wrong_losses = _check_rows(correct_losses, wrong_losses)
    mean_losses = np.array([np.mean(losses) for losses in wrong_losses])
    correct, wrong = probability(correct_losses), probability(mean_losses)
    if variant == "geometric":
        return wrong / (correct + EPSILON)
    if variant == "legacy_reciprocal":
        # The clip only keeps a destroyed model (loss > 700 nats) from overflowing.
        return np.exp(np.clip(mean_losses - correct_losses, -700, 700))
    if variant == "arithmetic":
        wrong = np.array([probability(losses).mean() for losses in wrong_losses])
        return wrong / (correct + EPSILON)
    if variant == "prob_mean":
        return correct / (correct + wrong + EPSILON)
    raise ValueError(
        f"unknown truth ratio variant {variant!r}; choose one of {TRUTH_RATIO_VARIANTS}"
    )


def closer_to_1_better(ratios, variant: TruthRatioVariant = "geometric") -> np.ndarray:
    """Score of each forget row: min(TR, 1/(TR + 1e-10)); its mean is reported.

    1 where the true and the perturbed text are equally likely. Folding makes it the
    same for TR and 1/TR, so "legacy_reciprocal" needs no conversion.
    """
    ratios = _check_ratios(ratios, variant)
    if variant == "legacy_reciprocal":
        return np.minimum(ratios, 1 / ratios)
    return np.minimum(ratios, 1 / (ratios + EPSILON))


def true_better(ratios, variant: TruthRatioVariant = "geometric") -> np.ndarray:
    """Score of each row that is to be kept: max(0, 1 − TR); its mean is reported."""
    ratios = _check_ratios(ratios, variant)
    if variant == "legacy_reciprocal":
        ratios = 1 / ratios
    return np.maximum(0.0, 1.0 - ratios)


def rouge_l_recall(generations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """ROUGE-L recall (stemmed) of each generated text against its reference.

    >>> rouge_l_recall(["Paris it is"], ["Paris, France"]).tolist()
    [0.5]
    """
    return np.array([score.recall for score in _rouge_l(generations, references)])


def rouge_l_f1(generations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """The same as an F1 score: MUSE's verbatim memorisation, of continuations.

    >>> rouge_l_f1(["Paris it is"], ["Paris, France"]).round(3).tolist()
    [0.4]
    """
    return np.array([score.fmeasure for score in _rouge_l(generations, references)])


def _rouge_l(generations: Sequence[str], references: Sequence[str]) -> list[Any]:
    if len(generations) != len(references):
        raise ValueError(
            f"{len(generations)} generated texts for {len(references)} references; "
            "generate one text per question"
        )
    score = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True).score
    pairs = zip(references, generations, strict=True)
    return [score(*pair)["rougeL"] for pair in pairs]


def exact_memorization(scores: TokenScores) -> float:
    """Share of answer tokens predicted right by argmax, end-of-sequence left out."""
    return float(np.mean(answer_tokens(scores, "exact memorisation").correct))


def extraction_strength(
    scores: TokenScores, floor: Literal["correct", "compat"] = "correct"
) -> float:
    """Share of the answer that follows from the shortest prefix that suffices.

    ES = 1 − k/N with k the smallest position from which every one of the N answer
    tokens (end-of-sequence left out) is predicted right by argmax.

    Args:
      floor: value where not even the last token is right: "correct" is 0; "compat"
        is 1/N, what open-unlearning reports since its loop ends with k = N − 1.

    >>> correct = np.array([True, False, True, True, False])  # the last: end of text
    >>> extraction_strength(TokenScores(*np.zeros((1, 5)), correct, *np.ones((2, 5))))
    0.5
    """
    if floor not in ("correct", "compat"):
        raise ValueError(f"floor must be 'correct' or 'compat', got {floor!r}")
    correct = answer_tokens(scores, "extraction strength").correct
    wrong = np.flatnonzero(~np.asarray(correct, bool))
    start = int(wrong[-1]) + 1 if len(wrong) else 0
    if floor == "compat":
        start = min(start, len(correct) - 1)
    return 1.0 - start / len(correct)


def model_utility(terms: Mapping[str, float]) -> float:
    """Harmonic mean of the nine `UTILITY_TERMS`; 0 as soon as one of them is 0.

    Raises:
      EvaluationError: a term is missing or is not a number ≥ 0.
    """
    missing = [name for name in UTILITY_TERMS if name not in terms]
    if missing:
        raise EvaluationError(
            f"model utility needs nine terms, {', '.join(missing)} missing: evaluate "
            "the retain, real-authors and world-facts sets, generation included"
        )
    values = [float(terms[name]) for name in UTILITY_TERMS]
    for name, value in zip(UTILITY_TERMS, values, strict=True):
        if not value >= 0:  # also catches NaN
            raise EvaluationError(f"model utility: {name} is {value}, must be ≥ 0")
    return float(stats.hmean(values))


def _check_rows(correct_losses, wrong_losses) -> tuple[np.ndarray, list[np.ndarray]]:
    """Checks that every row has a loss and at least one wrong answer."""
    correct = np.asarray(correct_losses, np.float64)
    wrong = [np.asarray(losses, np.float64) for losses in wrong_losses]
    if correct.ndim != 1 or len(correct) != len(wrong):
        raise ValueError(
            f"correct_losses of shape {correct.shape} and {len(wrong)} rows of wrong "
            "losses do not match; give one row of wrong losses per correct loss"
        )
    for row, losses in enumerate(wrong):
        if losses.ndim != 1 or not len(losses):
            raise ValueError(
                f"row {row} needs a list of at least one wrong loss, got shape "
                f"{losses.shape}"
            )
    return correct, wrong


def _check_ratios(ratios, variant: TruthRatioVariant) -> np.ndarray:
    """Ratios as float64; the probability form is averaged as it is, not folded."""
    if variant not in TRUTH_RATIO_VARIANTS or variant == "prob_mean":
        raise ValueError(
            f"no such aggregate for truth ratio variant {variant!r}: average "
            "'prob_mean' values directly, or choose one of "
            f"{[name for name in TRUTH_RATIO_VARIANTS if name != 'prob_mean']}"
        )
    return np.asarray(ratios, np.float64)


def answer_tokens(scores: TokenScores, metric: str) -> TokenScores:
    """Scores without end-of-sequence; refuses an answer that has nothing else."""
    answer = scores.without_eos()
    if not len(answer):
        raise EvaluationError(
            f"{metric} of an answer with no token besides the end of sequence is "
            "undefined; drop the row with the empty answer"
        )
    return answer
