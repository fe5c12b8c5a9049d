"""What optax and Flax wrap around `ofmu`: it works, or an error names the cure."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import ofmu_jax
from ofmu_jax import methods
from ofmu_jax.methods.rules.constrained import constrained
from ofmu_jax.methods.rules.hamu import hamu
from ofmu_jax.methods.vision.scrub import scrub

PARAMS = {"w": jnp.array([0.3, -0.7, 1.2]), "b": jnp.array([0.5])}
FORGET = lambda p, i: jnp.sum(jnp.sin(p["w"] * p["b"])) - 0.5 * jnp.sum(p["w"] ** 2)
RETAIN = lambda p, i: jnp.sum((p["w"] - p["b"]) ** 2)
LOSSES = {"forget_loss": FORGET, "retain_loss": RETAIN}
ZEROS = optax.tree.zeros_like(PARAMS)
OFMU = ofmu_jax.ofmu(0.1, 0.1, inner_steps=1, rho=1e-2)
BOUND = ofmu_jax.with_losses(OFMU, FORGET, RETAIN)
FREEZE_B = {"w": False, "b": True}
TRAIN_W = {"w": True, "b": False}


def update(tx, params=PARAMS, grads=ZEROS, **extra):
    step = jax.jit(functools.partial(tx.update, **extra))
    return step(grads, tx.init(params), params)[0]


@functools.cache
def plain():
    return update(OFMU, **LOSSES)


@functools.cache
def of_w():
    """The update of w where b is a constant of the losses."""
    losses = {
        name: lambda p, i, loss=loss: loss(p | {"b": PARAMS["b"]}, i)
        for name, loss in LOSSES.items()
    }
    alone = {"w": PARAMS["w"]}
    return update(OFMU, alone, None, **losses) | {"b": jnp.zeros(1)}


AS_PLAIN = {
    "chain": optax.chain(OFMU, optax.identity()),
    "named_chain": optax.named_chain(("ofmu", OFMU)),
    "with_extra_args_support": optax.with_extra_args_support(OFMU),
    "apply_if_finite": optax.apply_if_finite(OFMU, 3),
    "MultiSteps": optax.MultiSteps(OFMU, 1),
    "conditionally_mask": optax.transforms.conditionally_mask(OFMU, lambda i: i == 0),
    "schedule_free": optax.contrib.schedule_free(OFMU, 0.1, b1=1.0),
    "sgd": ofmu_jax.ofmu(optax.sgd(0.1), optax.sgd(lambda i: 0.1), 1, rho=1e-2),
    "schedules": ofmu_jax.ofmu(lambda i: 0.1, lambda i: 0.1, 1, rho=1e-2),
    "flatten_within": ofmu_jax.ofmu(
        optax.flatten(optax.sgd(0.1)), optax.flatten(optax.sgd(0.1)), 1, rho=1e-2
    ),
    "apply_if_finite_within": ofmu_jax.ofmu(
        optax.apply_if_finite(optax.sgd(0.1), 3), 0.1, 1, rho=1e-2
    ),
    "multi_steps_within": ofmu_jax.ofmu(
        optax.MultiSteps(optax.sgd(0.1), 1), 0.1, 1, rho=1e-2
    ),
    "inject_hyperparams": optax.inject_hyperparams(
        ofmu_jax.ofmu, static_args=("inner_steps", "outer_steps")
    )(0.1, 0.1, inner_steps=1, rho=1e-2),
}


@pytest.mark.parametrize("name", AS_PLAIN)
def test_the_update_is_that_without_the_wrapper(name):
    found = update(AS_PLAIN[name], **LOSSES)
    chex.assert_trees_all_close(found, plain(), rtol=1e-4, atol=1e-6)


RATES = {
    "int_and_float": (1, 0.1),
    "numpy": (np.float32(1), np.array(0.1)),
    "jax": (jnp.ones(()), jnp.array(0.1)),
}


@pytest.mark.parametrize("name", RATES)
def test_plain_numbers_are_rates_of_sgd(name):
    found, expected = (
        update(ofmu_jax.ofmu(outer, inner, 1, rho=1e-2), **LOSSES)
        for outer, inner in (RATES[name], (optax.sgd(1.0), optax.sgd(0.1)))
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


HIDING = {
    "masked": optax.masked(OFMU, TRAIN_W),
    "partition": optax.partition(
        {"train": OFMU, "freeze": optax.set_to_zero()}, {"w": "train", "b": "freeze"}
    ),
    "selective_transform": optax.transforms.selective_transform(
        OFMU, freeze_mask=FREEZE_B
    ),
}


@pytest.mark.parametrize("name", HIDING)
def test_hidden_parameters_are_constants_of_the_losses(name):
    found = update(HIDING[name], full_params=PARAMS, **LOSSES)
    chex.assert_trees_all_close(found, of_w(), rtol=1e-4, atol=1e-6)
    filled = {
        name: lambda p, i, loss=loss: loss(ofmu_jax.fill_masked(p, PARAMS), i)
        for name, loss in LOSSES.items()
    }
    chex.assert_trees_all_close(update(HIDING[name], **filled), found)


@pytest.mark.parametrize("name", HIDING)
def test_a_loss_that_needs_what_is_hidden_says_so(name):
    norm = lambda p, i: optax.tree.norm(p)  # no leaf is left out in silence
    for losses in (LOSSES, {"forget_loss": norm, "retain_loss": norm}):
        with pytest.raises(ValueError, match="full_params=params"):
            update(HIDING[name], **losses)


def test_flattened_parameters_are_given_back_their_form():
    flat = optax.flatten(OFMU)
    found = update(flat, full_params=PARAMS, **LOSSES)
    chex.assert_trees_all_close(found, plain(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"optax\.flatten .* full_params=params"):
        update(flat, **LOSSES)


READ_GRADIENTS = {
    "apply_if_finite": optax.apply_if_finite(OFMU, 3),
    "MultiSteps": optax.MultiSteps(OFMU, 1),
    "conditionally_mask": AS_PLAIN["conditionally_mask"],
    "flatten": optax.flatten(OFMU),
    **HIDING,
}


@pytest.mark.parametrize("name", READ_GRADIENTS)
def test_bound_losses_around_a_wrapper_need_no_gradients(name):
    """And no ``full_params``; without them Optax itself ends with an error."""
    found = update(
        ofmu_jax.with_losses(READ_GRADIENTS[name], FORGET, RETAIN), grads=None
    )
    expected = of_w() if name in HIDING else plain()
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


def test_bound_losses_belong_inside_what_passes_no_arguments_on():
    with pytest.raises(TypeError, match=r"inside, optax\.lookahead\(with_losses"):
        ofmu_jax.with_losses(optax.lookahead(OFMU, 1, 0.5), FORGET, RETAIN)


def test_lookahead_and_sam_take_bound_losses():
    look = optax.lookahead(BOUND, 1, 0.5)  # every step is halved
    found = update(look, optax.LookaheadParams.init_synced(PARAMS))
    chex.assert_trees_all_close(found.fast, optax.tree.scale(0.5, plain()), rtol=1e-4)
    sam = optax.contrib.sam(BOUND, optax.sgd(0.1), 2, opaque_mode=True)
    found = update(sam, grad_fn=lambda p, i: ZEROS)
    chex.assert_trees_all_close(found, plain(), rtol=1e-4, atol=1e-6)


def test_wrappers_that_pass_no_arguments_on_are_told_of_with_losses():
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=OFMU)
    with pytest.raises(ValueError, match="with_losses"):
        state.apply_gradients(grads=ZEROS)
    look = optax.lookahead(OFMU, 1, 0.5)
    with pytest.raises(ValueError, match="with_losses"):
        update(look, optax.LookaheadParams.init_synced(PARAMS))


def test_train_state_applies_bound_losses():
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=OFMU)
    new = state.replace(tx=BOUND).apply_gradients(grads=ZEROS).replace(tx=state.tx)
    expected = optax.apply_updates(PARAMS, plain())
    chex.assert_trees_all_close(new.params, expected, rtol=1e-4)
    assert int(new.opt_state.outer_iteration) == 1


def test_nnx_optimizer_passes_the_losses_on():
    class Model(nnx.Module):
        def __init__(self):
            self.w, self.b = (nnx.Param(PARAMS[name]) for name in ("w", "b"))

    model = Model()
    optimizer = nnx.Optimizer(model, OFMU, wrt=nnx.Param)
    optimizer.update(model, optax.tree.zeros_like(nnx.state(model)), **LOSSES)
    expected = optax.apply_updates(PARAMS, plain())
    chex.assert_trees_all_close(model.w[...], expected["w"], rtol=1e-4)
    chex.assert_trees_all_close(model.b[...], expected["b"], rtol=1e-4)


@pytest.mark.parametrize("wrapper", [optax.apply_if_finite, optax.MultiSteps])
def test_wrappers_that_read_gradients_take_no_none(wrapper):
    with pytest.raises((TypeError, ValueError)):  # optax's own, before or after ofmu
        update(wrapper(OFMU, 1), grads=None, **LOSSES)


def test_what_is_no_optimizer_is_named():
    with pytest.raises(TypeError, match="inner_optimizer must be an optax optimizer"):
        ofmu_jax.ofmu(0.1, "adam")
    with pytest.raises(TypeError, match="outer_optimizer must be an optax optimizer"):
        ofmu_jax.ofmu(np.ones(2), 0.1)


LOSS = lambda p, x: jnp.sum((p["w"] - x) ** 2)
BATCHES = {part: jnp.ones((2, 1)) for part in ("forget", "retain")}
METHODS = {
    "gradient_ascent": lambda rate: methods.gradient_ascent(LOSS, rate),
    "fine_tune": lambda rate: methods.fine_tune(LOSS, rate),
    "weighted_difference": lambda rate: methods.weighted_difference(LOSS, LOSS, rate),
    "primal_dual": lambda rate: methods.primal_dual(LOSS, LOSS, rate, epsilon=0.1),
    "constrained": lambda rate: constrained(LOSS, LOSS, rate, level=lambda batch: 1.0),
    "hamu": lambda rate: hamu(LOSS, LOSS, rate),
    "scrub": lambda rate: scrub(LOSS, LOSS, rate, max_updates=1),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_a_rate_too(name):
    def after(rate):
        method = METHODS[name](rate)
        return method.update(PARAMS, method.init(PARAMS), BATCHES)[0]

    chex.assert_trees_all_equal(after(0.01), after(optax.sgd(0.01)))
    assert not jnp.allclose(after(0.01)["w"], PARAMS["w"])
