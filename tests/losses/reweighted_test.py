"""WGA and SatImp: weights by hand, and no gradient through them."""

import jax
import numpy as np
from losses_toys import BATCH, PARAMS, apply

from ofmu_jax.losses import likelihood, reweighted

P = np.array([0.5, 0.7, 0.8, 0.3])  # of the four scored tokens


def test_wga():
    value = reweighted.wga(apply, PARAMS, BATCH, beta=2.0)
    np.testing.assert_allclose(value, np.mean(P**2 * np.log(P)), rtol=1e-5)


def test_wga_without_weight_is_gradient_ascent():
    gradient = jax.grad(lambda p: reweighted.wga(apply, p, BATCH, beta=0.0))(PARAMS)
    ascent = jax.grad(lambda p: likelihood.negated_cross_entropy(apply, p, BATCH))
    np.testing.assert_allclose(gradient, ascent(PARAMS), rtol=1e-5, atol=1e-7)


def test_satimp():
    value = reweighted.satimp(apply, PARAMS, BATCH, beta1=3.0, beta2=0.5)
    expected = np.mean(P**3 * (1 - P) ** 0.5 * np.log(P))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_no_gradient_through_the_weights():
    # In the logits the NLL of a token with p = (.5, .25, .25), label 0, has the
    # gradient (−.5, .25, .25); the loss takes it times −w/4.
    nll = np.array([-0.5, 0.25, 0.25])
    gradient = jax.grad(lambda p: reweighted.wga(apply, p, BATCH))(PARAMS)
    np.testing.assert_allclose(gradient[0, 0], -0.5 / 4 * nll, rtol=1e-5)
    gradient = jax.grad(lambda p: reweighted.satimp(apply, p, BATCH))(PARAMS)
    np.testing.assert_allclose(gradient[0, 0], -(0.5**5 * 0.5) / 4 * nll, rtol=1e-5)


def test_satimp_of_a_certain_token_is_exact_and_finite():
    # p = 1/(1 + 2e⁻⁵⁰): 1 − p vanishes in a difference, not here.
    certain = PARAMS.at[0, 0].set(np.array([50.0, 0.0, 0.0]))
    value, gradient = jax.value_and_grad(
        lambda p: reweighted.satimp(apply, p, BATCH, beta2=0.5)
    )(certain)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
