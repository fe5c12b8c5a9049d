"""NPO, SimNPO and DPO on two sequences with known NLL."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_toys import BATCH, NLL, PARAMS, apply, log_sigmoid

from ofmu_jax.losses import preference


def with_alternative(reference, alternative_reference):
    """The same rows as alternative, but with the labels of one token each."""
    labels = np.array([[-100, 0, -100, -100], [-100, 1, -100, -100]])
    return BATCH | {
        "reference_nll": jnp.asarray(reference, jnp.float32),
        "alternative": BATCH | {"labels": labels},
        "alternative_reference_nll": jnp.asarray(alternative_reference, jnp.float32),
    }


def test_npo():
    batch = BATCH | {"reference_nll": jnp.array([0.2, 0.4])}
    expected = -2 / 0.5 * log_sigmoid(0.5 * (NLL - [0.2, 0.4])).mean()
    value = preference.npo(apply, PARAMS, batch, beta=0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_simnpo_is_per_token():
    expected = -2 / 4.5 * log_sigmoid(4.5 * (NLL / [3, 1] - 0.5)).mean()
    value = preference.simnpo(apply, PARAMS, BATCH, beta=4.5, delta=0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_dpo():
    batch = with_alternative([0.2, 0.4], [1.0, 3.0])
    refusal = -np.log([0.5, 0.5])  # p of the single labelled token of each row
    margin = (np.array([1.0, 3.0]) - refusal) - ([0.2, 0.4] - NLL)
    expected = -2 / 0.3 * log_sigmoid(0.3 * margin).mean()
    value = preference.dpo(apply, PARAMS, batch, beta=0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_dpo_at_the_reference_is_even():
    refusal = -np.log([0.5, 0.5])
    batch = with_alternative(NLL, refusal)
    value, gradient = jax.value_and_grad(
        lambda p: preference.dpo(apply, p, batch, beta=0.3)
    )(PARAMS)
    np.testing.assert_allclose(value, 2 / 0.3 * np.log(2), rtol=1e-5)
    # −mean(s of the forget answer − s of the refusal): in the first row both hold
    # token 0 at position 0, which cancels.
    np.testing.assert_allclose(gradient[0, 0], 0, atol=1e-6)
    # Position 2 of the second row, p = (.3, .3, .4), label 1 of the forget answer.
    np.testing.assert_allclose(gradient[1, 2], -np.array([0.3, -0.7, 0.4]) / 2, 1e-5)


def test_far_margins_stay_finite():
    for reference in (-1e4, 1e4):
        batch = BATCH | {"reference_nll": jnp.full(2, reference)}
        value, gradient = jax.value_and_grad(
            lambda p, b=batch: preference.npo(apply, p, b, beta=1.0)
        )(PARAMS)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "missing", ["reference_nll", "alternative", "alternative_reference_nll"]
)
def test_what_is_missing_is_named(missing):
    batch = with_alternative(NLL, NLL)
    del batch[missing]
    with pytest.raises(ValueError, match=f"dpo needs batch\\['{missing}'\\]"):
        preference.dpo(apply, PARAMS, batch)
