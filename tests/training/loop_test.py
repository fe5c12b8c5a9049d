"""The loop: batches, checks and values that are not finite."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from loop_toys import descend, stream, values_of

from ofmu_jax import methods
from ofmu_jax.training import loop


def test_nan_returns_the_last_good_parameters_and_says_so():
    # log(3 − updates) is NaN from the fourth update on.
    method = methods.fine_tune(
        lambda p, b: jnp.where(p > -3.5, jnp.sum(p), jnp.nan), optax.sgd(1.0)
    )
    result = loop.run(
        method,
        jnp.array(0.0),
        stream(1),
        num_updates=10,
        check=lambda p: {"forget_nll": 0.0, "retain_nll": 0.0},
        check_every=2,
    )
    assert not result.finite
    assert float(result.params) == -4.0
    assert "retain_loss is nan" in result.stopped
    assert "update 4" in result.stopped


def test_nan_in_a_check_returns_the_check_before():
    path = [(0, 0), (1.0, 1.0), (float("nan"), 1.0)]
    result = loop.run(
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=10,
        check=values_of(path),
        check_every=1,
    )
    assert not result.finite
    assert float(result.params) == -1.0
    assert result.updates == 2


def test_a_broken_start_is_an_error():
    with pytest.raises(FloatingPointError, match="before the first update"):
        loop.run(
            descend(),
            jnp.array(0.0),
            stream(1),
            num_updates=1,
            check=values_of([(float("inf"), 0)]),
        )


def test_batches_that_end_early_are_an_error():
    with pytest.raises(ValueError, match="ended after 2 of 5 updates"):
        loop.run(
            descend(), jnp.array(0.0), itertools.islice(stream(1), 2), num_updates=5
        )


@pytest.mark.parametrize("check", [None, lambda p: {"forget_nll": 1, "retain_nll": 1}])
def test_nan_in_a_parameter_that_no_loss_sees_is_found(check):
    # θ falls by 1 an update, the loss stays 1, and "unseen" is log(4.5 + θ).
    def update(params, state, batches):
        theta = params["theta"] - 1
        unseen = jnp.log(4.5 + params["theta"])
        return {"theta": theta, "unseen": unseen}, state, {"retain_loss": jnp.ones(())}

    method = methods.Method(
        lambda p: (), update, batches_per_update=1, gradient_evaluations=1
    )
    result = loop.run(
        method,
        {"theta": jnp.array(0.0), "unseen": jnp.array(0.0)},
        stream(1),
        num_updates=9,
        check=check,
        check_every=3,
    )
    # Update 6 takes log(4.5 − 5) and is found at the check after it.
    assert (result.update, result.updates, result.finite) == (3, 6, False)
    np.testing.assert_allclose(result.params["unseen"], np.log(2.5), rtol=1e-6)
    assert result.stopped == (
        "parameter ['unseen'] is not finite at update 6; "
        "returned the last good parameters, of update 3"
    )


def test_without_a_check_the_guard_still_keeps_good_parameters():
    method = methods.fine_tune(
        lambda p, b: jnp.where(p > -4.5, jnp.sum(p), jnp.nan), optax.sgd(1.0)
    )
    result = loop.run(method, jnp.array(0.0), stream(1), num_updates=9, check_every=3)
    # Looked at after updates 3 and 6 (NaN by then); the loss of θ = −5 was NaN at 6.
    assert (result.update, float(result.params), result.finite) == (3, -3.0, False)
    assert "retain_loss is nan at update 6; returned the last good" in result.stopped
    assert [np.isnan(row["retain_loss"]) for row in result.metrics][:6] == (
        [False] * 5 + [True]
    )


def test_a_start_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match=r"\['w'\] is not finite before"):
        loop.run(descend(), {"w": jnp.array([1.0, jnp.inf])}, stream(1), num_updates=1)


def test_a_state_is_carried_on():
    """Two runs of three updates, the state handed over, are one of six."""
    method = methods.fine_tune(lambda p, b: jnp.sum(p**2), optax.adam(0.1))
    run = functools.partial(loop.run, method)
    whole = run(jnp.array(1.0), stream(1), num_updates=6)
    half = run(jnp.array(1.0), stream(1), num_updates=3)
    anew = run(half.params, stream(1), num_updates=3)
    rest = run(half.params, stream(1), num_updates=3, state=half.state)
    assert float(rest.params) == float(whole.params) != float(anew.params)
