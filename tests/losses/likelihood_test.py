"""Language losses against values computed by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_toys import BATCH, LABELS, NLL, PARAMS, apply

from ofmu_jax.losses import bounded, likelihood


def test_token_nll_shifts_and_masks():
    nll, scored = likelihood.token_nll(PARAMS, jnp.asarray(LABELS))
    np.testing.assert_array_equal(scored, [[1, 1, 1], [0, 0, 1]])
    expected = -np.log([[0.5, 0.7, 0.8], [1, 1, 0.3]])
    np.testing.assert_allclose(nll, expected, rtol=1e-5, atol=1e-7)


def test_sequence_nll_and_cross_entropy():
    nll, count = likelihood.sequence_nll(apply, PARAMS, BATCH)
    np.testing.assert_allclose(nll, NLL, rtol=1e-5)
    np.testing.assert_array_equal(count, [3, 1])
    value = likelihood.cross_entropy(apply, PARAMS, BATCH)
    np.testing.assert_allclose(value, NLL.sum() / 4, rtol=1e-5)


def test_target_cross_entropy_pulls_from_both_sides():
    # Mean NLLs .424 and 1.204: one sequence below the target, one above it.
    loss = lambda p: likelihood.target_cross_entropy(apply, p, BATCH, target=1.0)
    gaps = 1 - NLL / [3, 1]
    np.testing.assert_allclose(loss(PARAMS), -np.mean(gaps**2) / 2, rtol=1e-5)
    gradient = jax.grad(loss)(PARAMS)
    for i, count in enumerate([3, 1]):
        one = lambda p, i=i: likelihood.sequence_nll(apply, p, BATCH)[0][i]
        expected = gaps[i] / 2 * jax.grad(one)(PARAMS)[i] / count
        np.testing.assert_allclose(gradient[i], expected, rtol=1e-4, atol=1e-7)


def test_npo():
    reference = np.array([0.2, 0.4])
    batch = BATCH | {"reference_nll": jnp.asarray(reference, jnp.float32)}
    beta = 0.5
    log_sigmoid = lambda x: -np.log1p(np.exp(-x))
    expected = -2 / beta * log_sigmoid(beta * (NLL - reference)).mean()
    value = likelihood.npo(apply, PARAMS, batch, npo_beta=beta)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # At the reference itself it is (2/β) log 2, with half the slope of −NLL.
    batch["reference_nll"] = jnp.asarray(NLL, jnp.float32)
    value, gradient = jax.value_and_grad(
        lambda p: likelihood.npo(apply, p, batch, npo_beta=beta)
    )(PARAMS)
    np.testing.assert_allclose(value, 2 / beta * np.log(2), rtol=1e-5)
    ascent = jax.grad(lambda p: -likelihood.sequence_nll(apply, p, batch)[0].mean())
    np.testing.assert_allclose(gradient, ascent(PARAMS), rtol=1e-4, atol=1e-6)


def test_npo_without_reference_says_what_is_missing():
    with pytest.raises(ValueError, match="reference_nll"):
        likelihood.npo(apply, PARAMS, BATCH, npo_beta=0.1)


def test_bfloat16_logits_are_scored_in_float32():
    low = PARAMS.astype(jnp.bfloat16)
    value = likelihood.cross_entropy(apply, low, BATCH)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, NLL.sum() / 4, rtol=1e-2)


def test_all_labels_masked_is_zero_not_nan():
    batch = BATCH | {"labels": np.full((2, 4), -100)}
    assert float(likelihood.cross_entropy(apply, PARAMS, batch)) == 0.0


def test_ascended_losses_have_the_sign_of_phi():
    batch = BATCH | {"reference_nll": jnp.zeros(2)}
    value = lambda name, **kw: bounded.ascended_loss(name, apply, **kw)(PARAMS, batch)
    np.testing.assert_allclose(value("cross_entropy"), NLL.sum() / 4, rtol=1e-5)
    gaps = 1 - NLL / [3, 1]
    np.testing.assert_allclose(
        value("target_cross_entropy", target=1.0), -np.mean(gaps**2) / 2, rtol=1e-5
    )
    batch["target_nll"] = jnp.array([1.0, 1.0])
    chex.assert_trees_all_equal(
        value("target_cross_entropy"), value("target_cross_entropy", target=1.0)
    )
    log_sigmoid = lambda x: -np.log1p(np.exp(-x))
    np.testing.assert_allclose(
        value("npo", npo_beta=0.5), 4 * log_sigmoid(NLL / 2).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        value("simnpo", simnpo_beta=2.0, simnpo_delta=1.0),
        log_sigmoid(2 * (NLL / [3, 1] - 1)).mean(),
        rtol=1e-5,
    )


def test_ascended_loss_says_what_is_wrong():
    with pytest.raises(ValueError, match="needs a target"):
        bounded.ascended_loss("target_cross_entropy", apply)(PARAMS, BATCH)
    with pytest.raises(ValueError, match="'dpo' is unknown"):
        bounded.ascended_loss("dpo", apply)
