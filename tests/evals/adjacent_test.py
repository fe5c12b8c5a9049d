"""Adjacent rows: scored on their own, their gap to the retrained model; by hand."""

import dataclasses

import numpy as np
import pytest

from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals.evaluation import EvalOptions, Evaluation
from ofmu_jax.evals.language.comparison import compare_with_reference
from ofmu_jax.evals.language.scores import EvaluationError, TokenScores
from ofmu_jax.evals.language.tofu import evaluate_language

FAST = EvalOptions(num_resamples=50)


def qa(question, loss, *wrong):
    """An answer whose text names its loss; its paraphrase has loss 1."""
    return QA(question, f"{loss} right", None, "1.0 other", tuple(map(str, wrong)))


ADJACENT = (qa("near 1?", 0.5, 2.0), qa("near 2?", 1.5, 3.0))
DATA = UnlearningData(
    "scripted",
    forget=(qa("gone?", 4.0, 4.0), qa("lost?", 5.0, 5.0)),
    retain=(qa("kept?", 0.1, 2.0), *ADJACENT),
    full=(qa("kept?", 0.1, 2.0),),
    forget_eval=(qa("gone?", 4.0, 4.0), qa("lost?", 5.0, 5.0)),
    retain_eval=(qa("kept?", 0.1, 2.0),),
    adjacent=ADJACENT,
    adjacent_eval=ADJACENT,
    adjacent_heldout=(qa("near 1, again?", 2.0),),
)


def evaluated(data=DATA, shift=0.0, reference=None):
    def score(pairs):
        losses = [float(text.split()[0]) + shift for _, text in pairs]
        four = lambda x: np.full(4, x)
        return [
            TokenScores(four(-x), four(True), four(-1.0), four(1.0)) for x in losses
        ]

    generate = lambda questions: ["right" for _ in questions]
    return evaluate_language(
        data, score=score, generate=generate, reference=reference, options=FAST
    )


def test_scored_as_retain_rows_are():
    found = evaluated().metrics
    assert found["adjacent_Q_A_Prob"] == pytest.approx(np.exp([-0.5, -1.5]).mean())
    assert found["adjacent_heldout_Q_A_Prob"] == pytest.approx(np.exp(-2.0))
    # max(0, 1 − wrong / right), where the right text is the paraphrase of loss 1.
    assert found["adjacent_Truth_Ratio"] == pytest.approx(1 - np.exp([-1, -2]).mean())
    # "right" of "0.5 right": one word of three ("0", "5").
    assert found["adjacent_Q_A_ROUGE"] == pytest.approx(1 / 3)
    assert found["retain_Q_A_Prob"] == pytest.approx(np.exp(-0.1))


def test_the_gap_is_signed():
    """Below 0: the model knows the neighbours less than one retrained does."""
    retrained = evaluated()
    found = evaluated(shift=1.0, reference=retrained)
    expected = (np.exp(-1.0) - 1) * np.exp([-0.5, -1.5]).mean()
    assert found.metrics["adjacency_gap"] == pytest.approx(expected)
    low, high = found.intervals["adjacency_gap"]
    assert low <= expected <= high < 0
    assert "adjacency_gap" not in retrained.metrics  # of the reference itself
    assert retrained.missing["adjacency_gap"].startswith("no evaluation of a retrained")
    better = evaluated(shift=-0.1, reference=retrained)
    assert better.metrics["adjacency_gap"] > 0
    assert compare_with_reference(found, retrained).metrics == found.metrics


def test_other_adjacent_rows_are_not_compared():
    other = dataclasses.replace(DATA, adjacent_eval=ADJACENT[:1])
    with pytest.raises(EvaluationError, match="on other adjacent rows than the model"):
        evaluated(reference=evaluated(other))
    none = dataclasses.replace(DATA, adjacent_eval=())
    found = evaluated(reference=evaluated(none))
    assert found.missing["adjacency_gap"] == "the reference has no adjacent_Q_A_Prob"


def test_requests_without_adjacent_rows_say_nothing_of_them():
    found = evaluated(dataclasses.replace(DATA, adjacent_eval=(), adjacent_heldout=()))
    names = [*found.metrics, *found.missing, *found.fingerprints, *found.generations]
    assert names and not [name for name in names if "adjacen" in name]
    assert Evaluation.from_json(found.to_json()).metrics == found.metrics
