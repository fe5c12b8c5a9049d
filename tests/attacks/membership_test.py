"""Membership attacks against gradients by hand and the evaluation's own scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from asked_toys import Scripted

from ofmu_jax.attacks import membership
from ofmu_jax.attacks.base import Attacked, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.registry import ATTACKS
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.evaluation import EvalOptions
from ofmu_jax.evals.language import privacy, tofu
from ofmu_jax.evals.language.scores import TokenScores
from ofmu_jax.models.llama import nf4

ROWS = tuple(
    QA(f"Who is {x}?", f"The {x} of {y}.") for x in "abcd" for y in ("it", "us")
)
FORGET, HOLDOUT = ROWS[:5], ROWS[5:]
NAMES = dict(
    zip(
        privacy.ATTACKS,
        ("mia-loss", "mia-zlib", "mia-min-k", "mia-min-k-plus"),
        strict=True,
    )
)


class Scored(Scripted):
    """``params`` are token scores by the row's text."""

    def score_encoded(self, params, examples):
        return [params["".join(map(chr, x.input_ids[:-1]))] for x in examples]


def scores_of(seed):
    rng = np.random.default_rng(seed)
    draw = lambda n: TokenScores(
        np.log(rng.uniform(0.1, 1, n)), np.ones(n, bool), -rng.random(n), rng.random(n)
    )
    return {row.question + row.answer: draw(len(row.answer) + 1) for row in ROWS}


def run(name, params, reference=None):
    model = Attacked(Scored(), params, reference=reference)
    rows = Rows(FORGET, FORGET, holdout=HOLDOUT)
    assert ATTACKS[name].lacks(rows, model) is None
    return ATTACKS[name].run(model, rows, Budget(), lambda _: None)


def auc(found):
    """The probability that a forget row scores above a hold-out row."""
    forget, others = found.scores[0][:, None], found.holdout[0][None]
    return np.mean((forget > others) + 0.5 * (forget == others))


@pytest.mark.parametrize("name", privacy.ATTACKS)
def test_are_those_of_the_evaluation(name):
    scores = scores_of(0)
    by_row = lambda rows: [scores[row.question + row.answer] for row in rows]
    members, others = (
        tofu.attack_scores(rows, by_row(rows), EvalOptions().min_k)[name]
        for rows in (FORGET, HOLDOUT)
    )
    found = run(NAMES[name], scores)
    assert 0.05 < auc(found) < 0.95
    assert auc(found) == pytest.approx(privacy.auc(members, others))


def test_the_reference_takes_out_what_is_hard_for_every_model():
    scores, reference = scores_of(1), scores_of(2)
    found = run("mia-reference", scores, reference)
    expected = [
        reference[row.question + row.answer].avg_loss
        - scores[row.question + row.answer].avg_loss
        for row in ROWS
    ]
    both = np.concatenate([found.scores[0], found.holdout[0]])
    np.testing.assert_allclose(both, expected, rtol=1e-6)
    assert auc(run("mia-reference", reference, reference)) == 0.5
    lacks = ATTACKS["mia-reference"].lacks(Rows(FORGET, FORGET), Attacked(Scored(), {}))
    assert lacks == "it needs holdout rows and a reference model"


def apply_fn(params, ids, mask):
    """Logits of the next token: a table, plus the sum of two layers."""
    del mask
    return params["table"][ids] + params["layers"]["bias"].sum(0)


def test_gradient_norm_by_hand():
    """One label: p − onehot is the gradient of its row of the table, and of a layer."""
    table = jnp.array([[0.0, 1.0, 2.0], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    params = {"table": table, "layers": {"bias": jnp.zeros((2, 3))}}
    batch = {
        "input_ids": jnp.array([[1, 2, 0]]),
        "labels": jnp.array([[-100, 2, -100]]),
        "attention_mask": jnp.ones((1, 3), int),
    }
    gradient = np.asarray(jax.nn.softmax(table[1])) - [0, 0, 1]
    norm = np.linalg.norm(gradient)
    found = membership.grad_norm(apply_fn, params, batch)
    assert found == pytest.approx(norm, rel=1e-5)  # three tensors, each the same
    bias = jnp.array([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    wide = {"table": table, "layers": {"bias": bias}}
    surer = np.asarray(jax.nn.softmax(table[1] + bias[0])) - [0, 0, 1]
    found = membership.grad_norm(apply_fn, wide, batch)
    assert found == pytest.approx(np.linalg.norm(surer), rel=1e-5)


def test_what_is_in_4_bits_has_no_gradient():
    quantized = nf4.quantize(jnp.ones((64, 3)))

    def apply(params, ids, mask):
        return params["free"][ids] + nf4.dequantize(params["fixed"])[ids]

    batch = {
        "input_ids": jnp.array([[1, 2]]),
        "labels": jnp.array([[-100, 2]]),
        "attention_mask": jnp.ones((1, 2), int),
    }
    params = {"free": jnp.zeros((64, 3)), "fixed": quantized}
    found = membership.grad_norm(apply, params, batch)
    assert found == pytest.approx(np.sqrt(1 / 9 + 1 / 9 + 4 / 9), rel=1e-5)


def test_the_end_of_sequence_is_left_out():
    (example,) = Scripted().encode([QA("Q", "ab")])
    assert membership._without_end(example).labels.tolist() == [-100, 97, 98, -100]
    assert example.labels.tolist() == [-100, 97, 98, 0]
