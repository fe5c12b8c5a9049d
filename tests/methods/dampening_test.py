"""Diagonal Fisher matrices and what SSD, Fisher forgetting and UNSIR do with them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vision_toys import (
    BATCH,
    CONFIG,
    CONFIGS,
    FORGET,
    RETAIN,
    SETTING,
    stacked,
    variables,
)

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.methods.vision import registry, unsir
from ofmu_jax.methods.vision.fisher import (
    Fisher,
    Ssd,
    dampened,
    fisher,
    label_fisher,
    scrubbed,
    squared_gradient,
    ssd,
)
from ofmu_jax.models import resnet

# --- importances of a linear softmax model, z = x W -----------------------------------

X = jnp.array([[1.0, -2.0, 0.5]])
W = jnp.array([[0.3, -0.1], [0.2, 0.4], [-0.5, 0.1]])
LINEAR = lambda params, images: images.reshape(len(images), -1) @ params["w"]


def test_the_fisher_diagonal_of_a_linear_softmax_model():
    p = jax.nn.softmax(X @ W)[0]
    # ∂ log p_y / ∂W_ik = x_i (1[y = k] − p_k); its square's mean is x_i² p_k (1 − p_k).
    expected = jnp.square(X[0])[:, None] * p * (1 - p)
    found = label_fisher(LINEAR, {"w": W}, X)["w"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_empirical_fisher_is_the_square_of_the_mean_gradient():
    images = jnp.concatenate([X, 2 * X])
    labels = jnp.array([1, 0])
    found = squared_gradient(LINEAR, {"w": W}, {"images": images, "labels": labels})
    p = jax.nn.softmax(images @ W)
    gradient = images.T @ (p - jnp.eye(2)[labels]) / 2
    np.testing.assert_allclose(found["w"], gradient**2, rtol=1e-5)


# --- SSD ------------------------------------------------------------------------------


def test_dampening_selects_by_alpha_and_multiplies_by_lambda():
    theta = {"a": jnp.array([2.0, -3.0, 4.0, 5.0])}
    forget = {"a": jnp.array([11.0, 10.0, 100.0, 0.0])}
    every = {"a": jnp.array([1.0, 1.0, 1.0, 0.0])}
    # Above α = 10 times as much: the first and the third, times λ / 11 and λ / 100.
    found = dampened(theta, forget, every, Ssd(alpha=10.0, dampening=1.0))
    np.testing.assert_allclose(found["a"], [2 / 11, -3.0, 0.04, 5.0], rtol=1e-6)
    found = dampened(theta, forget, every, Ssd(alpha=10.0, dampening=50.0))
    np.testing.assert_allclose(found["a"], [2.0, -3.0, 2.0, 5.0], rtol=1e-6)


@pytest.mark.parametrize("group", [1, None])
def test_ssd_weighs_both_sets_by_their_sizes(group):
    found = ssd(Ssd(alpha=0.5, group=group), SETTING, variables())
    gradient = jax.jit(jax.grad(mean_nll))

    def importance(part):
        size = group or BATCH
        starts = range(0, len(part), size)
        groups = [part.take(np.arange(k, min(k + size, len(part)))) for k in starts]
        squares = [
            jax.tree.map(jnp.square, gradient(variables().params, g.images, g.labels))
            for g in groups
        ]
        return jax.tree.map(lambda *x: sum(x) / len(x), *squares)

    def expected(theta, i_f, i_r):
        i_d = (6 * i_f + 12 * i_r) / 18
        ratio = np.minimum(i_d / np.maximum(i_f, 1e-30), 1)
        factor = np.where(i_f > 0.5 * i_d, ratio, 1)
        return theta * factor

    parts = importance(FORGET), importance(RETAIN)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-4)
    jax.tree.map(
        close, found.params, jax.tree.map(expected, variables().params, *parts)
    )
    before = jax.tree.leaves(variables().params)
    moved = zip(jax.tree.leaves(found.params), before, strict=True)
    assert any(np.any(a != b) for a, b in moved)
    jax.tree.map(np.testing.assert_array_equal, found.batch_stats, variables()[1])


def mean_nll(params, images, labels):
    logits = resnet.apply(CONFIG, params, variables().batch_stats, images)[0]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def test_the_cost_of_importances():
    cost = lambda name, **options: (
        registry.build(
            name, SETTING, dataclasses.replace(CONFIGS[name], **options)
        ).setup_cost
    )
    assert cost("ssd") == 2 + 3  # batches of 4, of 6 and of 12 images
    assert cost("ssd", group=1) == 18 / 4  # single images
    # 12 images, each a forward pass (⅓) and a backward pass (⅔) a class of three.
    assert cost("fisher") == pytest.approx(12 * (1 / 3 + 3 * 2 / 3) / 4)
    assert cost("fisher", samples=2) == pytest.approx(2 * 7 / 3 / 4)
    assert cost("unsir", noise_steps=7) == 7


# --- Fisher forgetting ----------------------------------------------------------------


def test_the_noise_has_the_variance_of_the_inverse_fisher():
    kernel, f = jnp.full((2, 3), 5.0), jnp.array([[1.0, 4.0, 0.0], [1.0, 4.0, 0.0]])
    one = jnp.ones_like(kernel)
    found = scrubbed(kernel, f, one, 0.01, None) - 5
    # √(α / F), where F = 0 with 1 / F at its cap of 1000
    np.testing.assert_allclose(found[0], [0.1, 0.05, 10**0.5], rtol=1e-4)
    found = scrubbed(kernel, f, one, 0.01, np.array([False, True, False]))
    # The head: ten times the variance, a cap of 100, the class that is gone from 0.
    expected = [5 + 0.1 * 10**0.5, 0.001**0.5, 5 + 10**0.5]
    np.testing.assert_allclose(found[1], expected, rtol=1e-4)
    bias = scrubbed(jnp.zeros(1), jnp.ones(1), jnp.ones(1), 0.1, None)
    np.testing.assert_allclose(bias, [1.0], rtol=1e-4)


def test_the_inverse_is_averaged_over_a_layer_s_inputs():
    f, one = jnp.array([[1.0], [0.25]]), jnp.ones((2, 1))
    found = scrubbed(jnp.zeros((2, 1)), f, one, 1.0, None)  # (1 + 4) / 2
    np.testing.assert_allclose(found, [[2.5**0.5], [2.5**0.5]], rtol=1e-4)


def test_fisher_forgetting_drops_the_row_of_a_class_without_retain_images():
    kept = Labelled(RETAIN.images, RETAIN.labels % 2)  # class 2 is gone
    setting = SETTING._replace(retain=kept)
    found = fisher(Fisher(alpha=0.0, samples=2), setting, variables())
    before, after = (v.params["head"]["kernel"] for v in (variables(), found))
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    assert 0 < np.abs(after[:, 2]).max() < 5 * 0.001**0.5
    again = fisher(Fisher(alpha=0.0, samples=2), SETTING, variables())
    jax.tree.map(np.testing.assert_array_equal, again.params, variables().params)


# --- UNSIR ----------------------------------------------------------------------------


def test_adam_starts_afresh_when_repairing_begins():
    tx = unsir.impair_then_repair(0.5, 0.1, 2)
    params, state = jnp.zeros(1), tx.init(jnp.zeros(1))
    moved = []
    for gradient in (1.0, 1.0, -1.0, -1.0):
        updates, state = jax.jit(tx.update)(jnp.array([gradient]), state, params)
        moved.append(float(updates[0]))
    # Adam's steps on a constant gradient have the length of its rate.
    np.testing.assert_allclose(moved, [-0.5, -0.5, 0.1, 0.1], rtol=1e-4)


def test_noise_starts_normal_and_raises_the_loss():
    few, many = (
        unsir.make_noise(unsir.Unsir(noise_steps=n, noise_penalty=0.0), SETTING, start)
        for n, start in ((1, variables()), (30, variables()))
    )
    assert set(np.unique(many["labels"])) <= set(FORGET.labels.tolist())
    loss = lambda found: mean_nll(variables().params, found["images"], found["labels"])
    assert loss(many) > loss(few) + 0.1
    # One step of Adam moves every entry by its rate, 0.1; std 0.25, mean 0.5.
    start = 255 * (0.25 * jax.random.normal(jax.random.key(0), (BATCH, 4, 4, 1)) + 0.5)
    np.testing.assert_allclose(
        np.abs(few["images"] - start), 0.1 * 0.25 * 255, rtol=1e-2
    )


def test_the_penalty_draws_noise_to_the_mean_image():
    loss = lambda noise, penalty: unsir.noise_loss(
        CONFIG, variables(), noise, jnp.zeros(2, int), penalty
    )
    noise = jnp.full((2, 4, 4, 1), 0.5)  # squared norm 16 / 4
    assert float(loss(noise, 0.1) - loss(noise, 0.0)) == pytest.approx(0.4, rel=1e-4)
    pixels = unsir.as_pixels(CONFIG, jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_allclose(pixels, 127.5)


def test_unsir_impairs_then_repairs():
    config = unsir.Unsir(noise_steps=2, noise_share=0.5)
    plan = registry.build("unsir", SETTING._replace(budget=8.0), config)
    assert plan.method is not None
    assert plan.num_updates(8.0) == 6  # of which 3 impair: a pass over 12 images
    state = plan.method.init(variables())
    noise = state.frozen
    params = variables()
    update = jax.jit(plan.method.update)
    retain = stacked(RETAIN, False)
    losses = []
    for _ in range(4):
        before = params
        params, state, metrics = update(params, state, {"retain": retain})
        losses.append((before, float(metrics["retain_loss"])))

    def trained_on(variables, rows):
        images, labels = (
            np.concatenate([noise[name][rows], retain[name][0][len(rows) :]])
            for name in ("images", "labels")
        )
        logits, _ = resnet.apply(CONFIG, *variables, jnp.asarray(images), True)
        found = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return float(found.mean())

    for (before, loss), rows in zip(losses, ([0, 1], [2, 3], [0, 1], []), strict=True):
        rows = np.array(rows, int)
        assert loss == pytest.approx(trained_on(before, rows), rel=1e-3)
