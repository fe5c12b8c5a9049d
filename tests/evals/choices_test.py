"""Accuracy of multiple choice, with answers known on paper."""

import numpy as np
import pytest

from ofmu_jax.data.language.kinds.choices import Choice, Exam
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.evals.language.choices import add_choices
from ofmu_jax.evals.language.scores import TokenScores

# log p of each continuation; of " longer" over two tokens.
LOG = {" a": [-1.0], " b": [-2.0], " longer": [-1.0, -1.5], " c": [-3.0]}
ROWS = (
    Choice("?", ("a", "b"), 0),  # right
    Choice("?", ("b", "longer"), 1),  # wrong: −2 is above −2.5; right by −2.5 / 6
    Choice("?", ("a", "a"), 1),  # of equals the first one is chosen
    Choice("?", ("c", "b", "longer", "a"), 3),  # right; by characters "longer"
)


def follow(pairs):
    zeros = lambda values: [np.zeros(len(values))] * 3
    return [TokenScores(np.array(LOG[x]), *zeros(LOG[x])) for _, x in pairs]


def test_accuracy_norm_probability_and_chance():
    result = Evaluation()
    add_choices(result, Exam({"forget": ROWS}, "texts"), follow)
    found = result.metrics
    assert result.examples["forget_choice_accuracy"] == [1, 0, 0, 1]
    assert result.examples["forget_choice_accuracy_norm"] == [1, 1, 0, 0]
    assert found["forget_choice_accuracy"] == 0.5
    assert found["forget_choice_chance"] == pytest.approx((3 / 2 + 1 / 4) / 4)
    first = np.exp(-1) / (np.exp(-1) + np.exp(-2))
    assert result.examples["forget_choice_prob"][0] == pytest.approx(first)
    assert "forget_choice_accuracy" in result.intervals


def test_letters_have_no_length_to_divide_by():
    result = Evaluation()
    letters = lambda pairs: [
        TokenScores(np.array([-1.0 - ord(x[-1])]), *np.zeros((3, 1))) for _, x in pairs
    ]
    add_choices(result, Exam({"eval": ROWS}, "letters"), letters)  # A everywhere
    assert result.examples["eval_choice_accuracy"] == [1, 0, 0, 0]
    assert "eval_choice_accuracy_norm" not in result.metrics
