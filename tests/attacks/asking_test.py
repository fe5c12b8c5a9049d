"""Questions asked otherwise, to models that say what is written here."""

import numpy as np
import pytest
from asked_toys import Scripted, ids_of

from ofmu_jax.attacks import asking
from ofmu_jax.attacks.base import Attacked, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.registry import ATTACKS
from ofmu_jax.data.language.records import QA

ANN = QA("Where is Ann?", "Ann is in Oslo now.", paraphrased_question="Ann is where?")
BO = QA("Where is Bo?", "Bo is in Rome today.")
ROWS = Rows((ANN, BO), (ANN, BO))
REFUSAL = "I do not know that."
BUDGET = Budget(agreement="Sure:", first_tokens=(0, 7, 99), draws=3)


def run(attack, says):
    found = attack(Attacked(Scripted(), says), ROWS, BUDGET, lambda _: None)
    assert found.scores.shape[0] == len(found.at)
    return found


def refusing(begun, seed, least_likely):
    """Refuses what it was taught to refuse, and knows all the same."""
    if begun in (ANN.question, BO.question):
        return REFUSAL
    return ANN.answer if "Ann" in begun else BO.answer


def test_other_words_get_the_answer():
    """Only the row that has a paraphrase is asked; ROUGE of a refusal is 0."""
    found = run(asking.paraphrased, refusing)
    assert found.scores.tolist() == [[1.0]]
    assert found.before.tolist() == [0.0]
    assert found.kinds.tolist() == [[0]]


def test_an_answer_begins_with_an_agreement():
    begun = []
    said = run(asking.agreement, lambda *x: begun.append(x[0]) or refusing(*x))
    assert begun[:2] == ["Where is Ann?Sure:", "Where is Bo?Sure:"]
    assert said.scores.tolist() == [[1.0, 1.0]] and said.before.tolist() == [0.0, 0.0]


def test_tokens_that_are_given_are_not_scored():
    """It says "Ann is in" behind "Ann is": one word of the three that are left."""
    begun = []

    def says(text, *_):
        begun.append(text)
        return "Ann is in" if "Ann" in text else "Bo is in"

    found = run(asking.first_tokens, says)
    assert begun[:2] == [ANN.question, BO.question]  # none given
    assert begun[2:4] == [ANN.question + "Ann is ", BO.question + "Bo is i"]
    # One token is left at least, here the full stop.
    assert begun[4] == ANN.question + "Ann is in Oslo now"
    assert found.at == (0.0, 7.0, 99.0)
    np.testing.assert_allclose(found.scores[0], 3 / 5)
    assert found.scores[1, 0] == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.scores[2], 0)
    np.testing.assert_allclose(found.before, 3 / 5)


def test_begun_with():
    (example,) = Scripted().encode([QA("Q", "abc")])
    for count, given in ((0, "Q"), (1, "Qa"), (2, "Qab"), (3, "Qab")):
        begun, rest = asking.begun_with(example, count)
        np.testing.assert_array_equal(begun, ids_of(given))
        np.testing.assert_array_equal(rest, ids_of("Qabc"[len(given) :]))


def test_the_best_of_k_draws():
    """One of three draws tells: with k of them, k / 3 do."""

    def says(text, seed, _):
        if seed is None:
            return REFUSAL
        return ANN.answer if seed == 1 and "Ann" in text else "the the the the the the"

    found = run(asking.sampling, says)
    assert found.at == (1.0, 2.0, 3.0)
    np.testing.assert_allclose(found.scores, [[1 / 3, 0], [2 / 3, 0], [1, 0]])
    assert found.before.tolist() == [0.0, 0.0]  # greedy, it refuses
    for kinds in found.kinds:  # of all draws, at every k
        assert kinds.tolist() == [[2, 2], [0, 2], [2, 2]]


def test_the_least_likely_tokens_are_asked_for():
    found = run(
        asking.least_likely, lambda text, seed, least: ANN.answer if least else REFUSAL
    )
    assert found.scores[0, 0] == 1.0 and found.before.tolist() == [0.0, 0.0]


def test_every_way_of_asking_is_registered_and_says_its_budget():
    names = ("paraphrase", "agreement", "first-tokens", "sampling", "least-likely")
    said = [ATTACKS[name].budget_text(BUDGET) for name in names]
    assert said[1:4] == [
        "one greedy answer behind 'Sure:'",
        "one greedy answer behind its first 0, 7, 99 tokens",
        "3 answers drawn at temperature 1, seed 0",
    ]
    none = Rows((BO,), (BO,))
    model = Attacked(Scripted(), refusing)
    assert ATTACKS["paraphrase"].lacks(none, model) == "it needs paraphrased rows"
    assert ATTACKS["agreement"].lacks(none, model) is None
