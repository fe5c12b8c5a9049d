"""RMU on hidden states given as parameters, and PDU's pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_toys import BATCH, LABELS, PARAMS, PROBABILITIES, apply

from ofmu_jax.losses import margin, representation

# D = 3: row 0 has three labelled tokens, row 1 has one, at position 3.
HIDDEN = np.random.default_rng(3).normal(size=(2, 4, 3))
STATES = jnp.asarray(HIDDEN, jnp.float32)


def test_control_vector_has_its_norm_and_its_sign():
    vector = representation.control_vector(jax.random.key(0), 50, 6.5)
    np.testing.assert_allclose(np.linalg.norm(vector), 6.5, rtol=1e-5)
    assert (np.asarray(vector) >= 0).all()


def test_rmu_forget_averages_within_rows_first():
    control = np.array([1.0, 0.0, 2.0])
    error = ((HIDDEN - control) ** 2).mean(-1)
    loss = lambda **kw: representation.rmu_forget(
        apply, STATES, BATCH, jnp.asarray(control), **kw
    )
    rows = [error[0, 1:].mean(), error[1, 3]]
    np.testing.assert_allclose(loss(), np.mean(rows), rtol=1e-5)
    np.testing.assert_allclose(loss(positions="all"), error.mean(), rtol=1e-5)
    published = np.mean([error[0, 1:].sum(), error[1, 3]]) * np.mean([1 / 3, 1])
    np.testing.assert_allclose(loss(compat=True), published, rtol=1e-5)


def test_compat_normalisation_on_paper():
    # Errors of 1 in 1 and of 3 each in 4 tokens: mean(1/1, 12/4) = 2, but
    # mean(1, 12) · mean(1, 1/4) = 6.5 · .625.
    hidden = jnp.sqrt(jnp.array([[1.0, 0, 0, 0], [3.0, 3, 3, 3]]))[..., None]
    mask = jnp.array([[1, 0, 0, 0], [1, 1, 1, 1]])
    value = representation.hidden_mse(hidden, 0.0, mask)
    np.testing.assert_allclose(value, 2.0, rtol=1e-6)
    value = representation.hidden_mse(hidden, 0.0, mask, compat=True)
    np.testing.assert_allclose(value, 6.5 * 0.625, rtol=1e-6)
    # Rows of equal length do not show it.
    mask = jnp.ones((2, 4))
    np.testing.assert_allclose(
        representation.hidden_mse(hidden, 0.0, mask, compat=True),
        representation.hidden_mse(hidden, 0.0, mask),
        rtol=1e-6,
    )


def test_rmu_retain_pulls_back_to_the_reference():
    moved = STATES.at[0, 2, 1].add(3.0)  # one entry, of a labelled token
    value, gradient = jax.value_and_grad(
        lambda p: representation.rmu_retain(apply, p, BATCH, STATES)
    )(moved)
    np.testing.assert_allclose(value, 9 / 3 / 3 / 2, rtol=1e-5)  # D, tokens, rows
    np.testing.assert_allclose(gradient[0, 2, 1], 2 * 3 / 3 / 3 / 2, rtol=1e-5)
    reference = jax.grad(lambda r: representation.rmu_retain(apply, moved, BATCH, r))
    np.testing.assert_array_equal(reference(STATES), 0)


def test_hidden_states_in_bfloat16_are_compared_in_float32():
    value = representation.rmu_retain(apply, STATES.astype("bfloat16"), BATCH, STATES)
    assert value.dtype == jnp.float32


def test_logit_margin():
    z = np.log(PROBABILITIES)
    square = (z.max(-1) - z.mean(-1)) ** 2
    value = margin.logit_margin(apply, PARAMS, BATCH)
    scored = [square[0, 0], square[0, 1], square[0, 2], square[1, 2]]
    np.testing.assert_allclose(value, np.mean(scored), rtol=1e-5)
    value = margin.logit_margin(apply, PARAMS, BATCH, positions="unshifted")
    np.testing.assert_allclose(value, square[LABELS != -100].mean(), rtol=1e-5)
    value = margin.logit_margin(apply, PARAMS, BATCH, positions="all")
    np.testing.assert_allclose(value, square.mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="unshifted"):
        margin.logit_margin(apply, PARAMS, BATCH, positions="prompt")


def test_logit_margin_is_zero_for_flat_logits():
    value = margin.logit_margin(apply, jnp.full((2, 4, 3), 7.0), BATCH)
    assert float(value) == 0.0


def test_dual_ascent_stays_non_negative():
    values = [margin.dual_ascent(1.0, v, 2.0) for v in (0.5, -0.2, -3.0)]
    np.testing.assert_allclose(values, [2.0, 0.6, 0.0], rtol=1e-6)
