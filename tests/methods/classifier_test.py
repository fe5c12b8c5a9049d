"""What makes a method one for classifiers: augmentation, averages, optimizers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from vision_toys import (
    CONFIG,
    CONFIGS,
    FORGET,
    RETAIN,
    SETTING,
    stacked,
    variables,
)

from ofmu_jax.losses import vision
from ofmu_jax.methods.vision import classifier, descent, registry
from ofmu_jax.models import resnet

# --- augmentation and random labels ---------------------------------------------------


def test_preparing_draws_labels_for_forget_images_only_and_afresh_each_step():
    prepare = classifier.Prepare(num_classes=1000, padding=1, flip=True)
    batch = stacked(FORGET, True, stack=2)
    batch["forget"][:, 0] = False
    found = prepare({"union": batch})["union"]
    drawn = np.asarray(found["random_labels"])
    np.testing.assert_array_equal(drawn[:, 0], batch["labels"][:, 0])
    assert (drawn[:, 1:] != batch["labels"][:, 1:]).mean() > 0.5
    assert (drawn[0, 1:] != drawn[1, 1:]).any()
    assert found["images"].dtype == np.uint8
    again = prepare({"union": batch})["union"]
    jax.tree.map(np.testing.assert_array_equal, found, again)
    # A step's draw does not depend on what it is stacked with.
    alone = prepare({"union": jax.tree.map(lambda x: x[1:], batch)})["union"]
    np.testing.assert_array_equal(alone["images"][0], found["images"][1])


# --- running averages -----------------------------------------------------------------


def test_a_descent_moves_parameters_and_averages_as_a_training_step():
    plan = descent.train(SETTING, 0.1, 0.0, 4)
    assert plan.method is not None
    start, batch = variables(), stacked(RETAIN, False)
    state = plan.method.init(start)
    found, _, metrics = jax.jit(plan.method.update)(start, state, {"retain": batch})

    @jax.jit
    def by_hand(start):
        def loss(params):
            logits, stats = resnet.apply(
                CONFIG, params, start.batch_stats, batch["images"][0], True
            )
            nll = vision.example_nll(logits, batch["labels"][0])
            return nll.mean(), stats

        (value, stats), slope = jax.value_and_grad(loss, has_aux=True)(start.params)
        return value, stats, jax.tree.map(lambda p, g: p - 0.1 * g, start.params, slope)

    value, stats, params = by_hand(start)
    np.testing.assert_allclose(metrics["retain_loss"], value, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found.batch_stats, stats)
    jax.tree.map(close, found.params, params)


@pytest.mark.slow
def test_ofmu_moves_the_averages_once_it_has_accepted_an_update():
    config = dataclasses.replace(
        CONFIGS["ofmu"], inner_steps=1, outer_steps=2, beta=0.1, rho=1e-2
    )
    plan = registry.build("ofmu", SETTING, config)
    assert plan.method is not None and plan.stream == "paired"
    assert plan.method.batches_per_update == 3
    start = variables()
    batches = {
        "forget": stacked(FORGET, True, 3),
        "retain": stacked(RETAIN, False, 3),
    }
    state = plan.method.init(start)
    found, state, metrics = jax.jit(plan.method.update)(start, state, batches)
    assert {"phi", "forget_loss", "retain_loss", "rho"} <= metrics.keys()
    # Through the two outer batches, at the parameters that the update ended with.
    stats = start.batch_stats
    forward = jax.jit(functools.partial(resnet.apply, CONFIG), static_argnums=3)
    for image in batches["retain"]["images"][1:]:
        _, stats = forward(found.params, stats, image, True)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found.batch_stats, stats)
    # One forget and two retain gradients, two passes for the averages.
    assert plan.method.gradient_evaluations == pytest.approx(1 + 2 + 2 / 3)


# --- optimizers -----------------------------------------------------------------------


def test_sgd_is_pytorchs():
    tx = classifier.sgd(0.1, 0.5)
    theta = jnp.array([2.0])
    state = tx.init(theta)
    for gradient, momentum in ((1.0, 2.0), (3.0, 0.9 * 2 + 3 + 0.5 * 1.8)):
        updates, state = tx.update(jnp.array([gradient]), state, theta)
        np.testing.assert_allclose(updates, [-0.1 * momentum], rtol=1e-6)
        theta = theta + updates


def test_masked_weights_never_move_and_free_ones_as_without_a_mask():
    plain = classifier.sgd(0.1, 0.5)
    masked = classifier.only_where(jnp.array([1.0, 0.0]), plain)
    theta, state = jnp.array([1.0, 1.0]), masked.init(jnp.ones(2))
    free, free_state = jnp.array([1.0]), plain.init(jnp.ones(1))
    for _ in range(3):
        updates, state = masked.update(jnp.array([1.0, 1.0]), state, theta)
        theta = theta + updates
        updates, free_state = plain.update(jnp.array([1.0]), free_state, free)
        free = free + updates
    np.testing.assert_allclose(theta, [float(free[0]), 1.0], rtol=1e-6)


def test_l1_weight_follows_its_schedule():
    tx = classifier.add_l1(lambda k: 1.0 - k)
    theta, state = jnp.array([-2.0]), tx.init(jnp.zeros(1))
    first, state = tx.update(jnp.array([5.0]), state, theta)
    second, _ = tx.update(jnp.array([5.0]), state, theta)
    np.testing.assert_array_equal([first[0], second[0]], [4, 5])
    with pytest.raises(ValueError, match="needs params"):
        tx.update(jnp.array([5.0]), state)
