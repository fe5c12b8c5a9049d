"""Attacks on documents: blocks are taught, passages are scored, nothing ends them."""

import dataclasses
import functools

import attack_toys
import numpy as np
import pytest
from asked_toys import Scripted

from ofmu_jax.attacks import asking, lessons, looking, membership
from ofmu_jax.attacks.base import Attacked, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.registry import ATTACKS
from ofmu_jax.data.language import prompts
from ofmu_jax.data.language.records import QA

BLOCKS = tuple(QA("", text) for text in ("a b c d e", " f", " g h i j", " k l m n"))
PASSAGES = (QA("a b", " c d"), QA(" g", " h i"), QA(" k", " l m"))
ROWS = Rows(PASSAGES, BLOCKS, holdout=(QA("x y", " z w"),))


@functools.cache
def task():
    return dataclasses.replace(
        attack_toys.task(), prompt_format=prompts.PROMPT_FORMATS["text"]
    )


def test_a_passage_stands_for_its_block_and_those_without_one():
    assert lessons.facts(ROWS) == [BLOCKS[:2], BLOCKS[2:3], BLOCKS[3:]]
    twice = Rows((PASSAGES[0],) * 2, (BLOCKS[0],) * 2)  # a text that comes again
    assert lessons.facts(twice) == [BLOCKS[:1], BLOCKS[:1]]


def test_what_asks_is_left_out_and_all_else_fits():
    model = Attacked(None, {}, target={}, reference={})
    rows = ROWS._replace(retain=BLOCKS, contrasts=PASSAGES)
    why = "it asks questions, and the forget rows are documents"
    left = {name for name, x in ATTACKS.items() if x.lacks(rows, model) is not None}
    assert left == {"paraphrase", "agreement", "probe"}
    assert {ATTACKS[name].lacks(rows, model) for name in left} == {why}


def test_every_token_of_a_passage_counts():
    """The lowest 40 % of the last token too, which ends an answer and no passage."""
    model = Attacked(task(), attack_toys.model().params)
    found = ATTACKS["mia-min-k"].run(model, ROWS, Budget(), lambda _: None)
    scores = task().score_encoded(model.params, task().encode(PASSAGES))
    expected = [np.sort(s.log_prob)[: max(1, int(0.4 * len(s)))].mean() for s in scores]
    np.testing.assert_allclose(found.scores[0], expected, rtol=1e-6)
    assert not any(s.ended for s in scores)


def test_the_gradient_is_that_of_every_token(monkeypatch):
    seen = []
    record = lambda apply, params, batch: seen.append(batch["labels"]) or 0.0
    monkeypatch.setattr(membership, "grad_norm", record)
    for subject, last in ((task(), False), (attack_toys.task(), True)):
        (example,) = subject.encode(PASSAGES[:1])
        membership.grad_norms(Attacked(subject, {}), PASSAGES[:1], lambda _: None)
        kept = seen.pop()[0, : len(example)]
        assert (kept[-1] == prompts.IGNORE) == last
        assert kept[-2] == example.input_ids[-2]


@pytest.mark.parametrize("count, given", [(1, "Qa"), (2, "Qab"), (9, "Qab")])
def test_the_rest_of_a_passage_has_no_end(count, given):
    (example,) = Scripted().encode([QA("Q", "ab")])  # whose end is a token as others
    begun, rest = asking.begun_with(example, count, ended=False)
    assert len(begun) == len(given) and len(begun) + len(rest) == len(example)


def test_the_last_word_of_a_passage_tells():
    (example,) = Scripted().encode([QA("Q", "ab")])
    whole = looking.told_tokens(lambda ids: "", example, QA("Q", "ab"), {}, False)
    assert whole.tolist() == [1, 2, 3]
