"""Losses of classifiers against values by hand; logits are the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ofmu_jax.losses import vision

LABELS = jnp.array([0, 1])
BATCH = {"images": jnp.zeros((2, 1, 1, 1)), "labels": LABELS}
P = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
LOGITS = jnp.asarray(np.log(P) + 3.0)  # a constant does not matter
NLL = -np.log([0.5, 0.8])


def logits_fn(params, images):
    return params


def test_cross_entropy_is_the_mean_nll():
    found = vision.cross_entropy(logits_fn, LOGITS, BATCH)
    np.testing.assert_allclose(found, NLL.mean(), rtol=1e-6)
    other = BATCH | {"random_labels": jnp.array([2, 0])}
    found = vision.cross_entropy(logits_fn, LOGITS, other, labels="random_labels")
    np.testing.assert_allclose(found, -np.log([0.25, 0.1]).mean(), rtol=1e-6)
    found = vision.negated_cross_entropy(logits_fn, LOGITS, BATCH)
    np.testing.assert_allclose(found, -NLL.mean(), rtol=1e-6)


def test_bounded_losses_by_hand():
    each = vision.target_cross_entropy(logits_fn, LOGITS, BATCH, target=1.0)
    np.testing.assert_allclose(each, -((1 - NLL) ** 2).mean() / 2, rtol=1e-6)
    mean = vision.mean_target_cross_entropy(logits_fn, LOGITS, BATCH, target=1.0)
    np.testing.assert_allclose(mean, -((1 - NLL.mean()) ** 2) / 2, rtol=1e-6)


def test_the_mean_bounded_gradient_is_cross_entropys_times_the_gap():
    bounded = jax.grad(
        lambda p: vision.mean_target_cross_entropy(logits_fn, p, BATCH, target=1.0)
    )(LOGITS)
    plain = jax.grad(lambda p: vision.cross_entropy(logits_fn, p, BATCH))(LOGITS)
    np.testing.assert_allclose(bounded, (1 - NLL.mean()) * plain, rtol=1e-5)


@pytest.mark.parametrize("name", vision.ASCENDED[1:])
def test_bounded_losses_rest_at_the_target_and_turn_round_beyond(name):
    batch = jax.tree.map(lambda x: x[:1], BATCH)
    loss = vision.ascended_loss(name, logits_fn, target=float(NLL[0]))
    slope = jax.grad(loss)(LOGITS[:1], batch)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    for target, sign in ((NLL[0] + 0.1, -1), (NLL[0] - 0.1, 1)):
        loss = vision.ascended_loss(name, logits_fn, target=target)
        assert np.sign(jax.grad(loss)(LOGITS[:1], batch)[0, 0]) == sign


def test_distillation_is_the_divergence_at_its_temperature():
    q = np.array([[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    teacher = lambda images: jnp.asarray(np.log(q))
    found = vision.distillation(logits_fn, LOGITS, BATCH, teacher, temperature=1.0)
    expected = np.sum(q * np.log(q / P), 1).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)

    def soften(x):
        x = np.sqrt(x)  # logits divided by 2
        return x / x.sum(1, keepdims=True)

    found = vision.distillation(logits_fn, LOGITS, BATCH, teacher, temperature=2.0)
    a, b = soften(q), soften(P)
    np.testing.assert_allclose(
        found, 4 * np.sum(a * np.log(a / b), 1).mean(), rtol=1e-4
    )


def test_unknown_losses_and_missing_targets_are_refused():
    with pytest.raises(ValueError, match="'npo' is unknown; choose one of"):
        vision.ascended_loss("npo", logits_fn)
    with pytest.raises(ValueError, match="needs a target"):
        vision.ascended_loss("target_cross_entropy", logits_fn)
