"""What attacks have in common is made once, and their numbers are the same."""

import collections

import numpy as np
from asked_toys import Network, Scripted

from ofmu_jax.attacks import looking
from ofmu_jax.attacks.base import Attacked, Rows, unaided
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.registry import ATTACKS
from ofmu_jax.data.language.records import QA

ROWS = (
    QA("Where is A?", "A is in Oslo now.", paraphrased_question="A is where?"),
    QA("Where is B?", "B is in Rome now."),
    QA("Where is C?", "C is in Kyiv now.", paraphrased_question="C is where?"),
)
RUN = Rows(ROWS, ROWS, holdout=(QA("Where is D?", "D is in Ur now."),))
BUDGET = Budget(first_tokens=(1,), draws=2)


def found(names, model):
    return [ATTACKS[name].run(model, RUN, BUDGET, lambda _: None) for name in names]


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.before, b.before)


class Asked(Scripted):
    """Counts how often each question is put as it is, for a greedy answer."""

    def __init__(self):
        self.asked = collections.Counter()

    def generate(self, params, questions, temperature=0.0, seed=0):
        self.asked.update([] if temperature else questions)
        return super().generate(params, questions, temperature, seed)


def test_plain_answers_are_made_once_whoever_asks_first():
    """A row without a paraphrase among others that have one keeps its own answer."""
    names = ("paraphrase", "agreement", "first-tokens", "sampling", "least-likely")
    says = lambda text, *_: "A is in Oslo" if "A" in text else "C is"
    for order in (names, names[::-1]):
        subject, alone = Asked(), Asked()
        ours = found(order, Attacked(subject, says, own={}))
        assert {subject.asked[row.question] for row in ROWS} == {1}
        same(ours, found(order, Attacked(alone, says)))
        assert alone.asked[ROWS[0].question] == 5
        paraphrased = ours[order.index("paraphrase")]
        np.testing.assert_allclose(paraphrased.before, [4 / 5, 2 / 5])


class Scored(Network):
    """Counts how often each model is scored."""

    def __init__(self):
        super().__init__()
        self.scored = collections.Counter()

    def score_encoded(self, params, examples):
        self.scored[id(params)] += 1
        return super().score_encoded(params, examples)


def test_each_model_is_scored_once_for_all_attacks_by_scores():
    """The retrained model's scores are those of its own turn, or of the first model
    beside it; no attack keeps them from another."""
    names = ("mia-loss", "mia-reference", "mia-zlib", "mia-min-k")
    net = Scored()
    reference, *others = map(net.made, range(3))
    common, alone = {}, []
    for params in (reference, *others):
        model = Attacked(net, params, reference=reference, own={}, common=common)
        alone.append((found(names, model), model._replace(own=None, common=None)))
        unaided(model, RUN), unaided(model, RUN)
    # Of the rows with those that no model saw, and of the rows alone.
    assert [net.scored[id(x)] for x in (reference, *others)] == [3, 2, 2]
    for ours, model in alone:
        same(ours, found(names, model))


def test_the_yardsticks_of_depth_are_made_once_for_all_models(monkeypatch):
    net, exchanged, count = Network(), looking.exchanged, collections.Counter()
    target, reference, other = map(net.made, (2, 0, 1))

    def counted(config, params, streams, *batch):
        count[id(streams)] += 1
        return exchanged(config, params, streams, *batch)

    monkeypatch.setattr(looking, "exchanged", counted)
    common, alone = {}, []
    for params in (reference, target, other):
        model = Attacked(net, params, target, reference, {}, {}, common)
        alone.append((found(("depth",), model), model._replace(common=None)))
    assert [count[id(x)] for x in (reference, target, other)] == [1, 1, 1]
    for ours, model in alone:
        same(ours, found(("depth",), model))
