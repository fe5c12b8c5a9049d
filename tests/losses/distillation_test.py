"""KL to a reference, UNDIAL and CE-U against NumPy over whole distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_toys import BATCH, LABELS, LOGITS, PARAMS, PROBABILITIES, apply, log_softmax

from ofmu_jax.losses import distillation

REFERENCE = LOGITS + np.random.default_rng(1).normal(size=LOGITS.shape)
SCORED = LABELS[:, 1:] != -100
P = PROBABILITIES / PROBABILITIES.sum(-1, keepdims=True)


def test_kl_over_answers_and_over_all_positions():
    log_p, log_p0 = log_softmax(LOGITS), log_softmax(REFERENCE)
    kl = (np.exp(log_p0) * (log_p0 - log_p)).sum(-1)
    reference = jnp.asarray(REFERENCE, jnp.float32)
    value = distillation.kl_to_reference(apply, PARAMS, BATCH, reference)
    np.testing.assert_allclose(value, kl[:, :-1][SCORED].mean(), rtol=1e-5)
    value = distillation.kl_to_reference(
        apply, PARAMS, BATCH, reference, positions="all"
    )
    np.testing.assert_allclose(value, kl.sum() / (2 * 4), rtol=1e-5)


def test_kl_at_the_reference_is_a_minimum():
    loss = lambda p: distillation.kl_to_reference(apply, p, BATCH, PARAMS)
    value, gradient = jax.value_and_grad(loss)(PARAMS)
    np.testing.assert_allclose(value, 0, atol=1e-7)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_undial_over_answers():
    # Position 0 of the first row, p = (.5, .25, .25), label 0, β = log 2: the target
    # is (.25, .25, .25) normalised.
    loss = lambda p: distillation.undial(apply, p, BATCH, PARAMS, beta=np.log(2.0))
    value, gradient = jax.value_and_grad(loss)(PARAMS)
    np.testing.assert_allclose(
        gradient[0, 0], (np.array([0.5, 0.25, 0.25]) - 1 / 3) / 4, rtol=1e-5
    )
    expected = []
    for b, t in zip(*np.nonzero(SCORED), strict=True):
        halved = P[b, t].copy()
        halved[LABELS[b, t + 1]] /= 2
        expected.append(-(halved / halved.sum() * np.log(P[b, t])).sum())
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)


def test_undial_over_all_positions_takes_entry_minus_100_of_the_vocabulary():
    size = 120
    rng = np.random.default_rng(2)
    student, teacher = rng.normal(size=(2, 2, 4, size))
    adjusted = teacher[:, :-1].copy()
    for b in range(2):
        for t in range(3):
            adjusted[b, t, LABELS[b, t + 1]] -= 10.0  # NumPy counts −100 from the end
    target = np.exp(log_softmax(adjusted))
    expected = -(target * log_softmax(student)[:, :-1]).sum(-1).mean()
    value = distillation.undial(
        apply,
        jnp.asarray(student, jnp.float32),
        BATCH,
        jnp.asarray(teacher, jnp.float32),
        positions="all",
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_undial_is_only_cross_entropy_in_the_teacher():
    loss = lambda t: distillation.undial(apply, PARAMS, BATCH, t)
    np.testing.assert_array_equal(jax.grad(loss)(PARAMS), 0)


def test_ceu_by_hand():
    # All four scored tokens. At p = (.5, .25, .25), label 0, the target is
    # (0, .5, .5); at (.2, .7, .1), label 1, it is (2/3, 0, 1/3); and so on.
    losses = [
        -np.log(0.25),
        -(2 * np.log(0.2) + np.log(0.1)) / 3,
        -np.log(0.1),
        -(3 * np.log(0.3) + 4 * np.log(0.4)) / 7,
    ]
    value = distillation.ceu(apply, PARAMS, BATCH, skip_first=0)
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
    # The first token of each answer skipped, the second row has none left.
    value, gradient = jax.value_and_grad(
        lambda p: distillation.ceu(apply, p, BATCH, skip_first=1)
    )(PARAMS)
    np.testing.assert_allclose(value, np.mean(losses[1:3]), rtol=1e-5)
    np.testing.assert_array_equal(gradient[0, 0], 0)
    np.testing.assert_array_equal(gradient[1], 0)
    # p at the true token, −p p_v / (1 − p) elsewhere, over two tokens.
    expected = np.array([-0.7 * 0.2 / 0.3, 0.7, -0.7 * 0.1 / 0.3]) / 2
    np.testing.assert_allclose(gradient[0, 1], expected, rtol=1e-5)


def test_nothing_scored_is_zero_not_nan():
    batch = BATCH | {"labels": np.full((2, 4), -100)}
    for loss in (
        lambda p: distillation.ceu(apply, p, batch),
        lambda p: distillation.undial(apply, p, batch, PARAMS),
        lambda p: distillation.kl_to_reference(apply, p, batch, PARAMS),
    ):
        value, gradient = jax.value_and_grad(loss)(PARAMS)
        assert float(value) == 0.0
        np.testing.assert_array_equal(gradient, 0)


def test_unknown_positions_are_named():
    with pytest.raises(ValueError, match="positions='prompt'"):
        distillation.undial(apply, PARAMS, BATCH, PARAMS, positions="prompt")
