"""Adam's moments in bfloat16: what is kept, what is lost, what falls."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.config.language import Demo
from experiments.domains.base import TARGET
from experiments.domains.language.domain import LanguageDomain
from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.methods import METHODS
from ofmu_jax.methods.language.of_model import of_model
from ofmu_jax.methods.moments import at_random, scale_by_adam_in_bfloat16

HALF, KEY = jnp.bfloat16, jax.random.key(3)


def test_the_first_update_is_that_of_float32():
    """Only what is kept is rounded: to 8 bits, g = 1 + 2⁻⁸ + 2⁻¹⁰ is 1 + 2⁻⁷."""
    gradient = {"w": jnp.array([1 + 2**-8 + 2**-10, -0.3, 0.0])}
    ours, theirs = scale_by_adam_in_bfloat16(b1=0.0), optax.scale_by_adam(b1=0.0)
    found, state = ours.update(gradient, ours.init(gradient))
    expected, _ = theirs.update(gradient, theirs.init(gradient))
    np.testing.assert_array_equal(found["w"], expected["w"])
    assert state.mu["w"].dtype == state.nu["w"].dtype == HALF
    assert state.mu["w"].tolist()[0] == 1 + 2**-7


def test_between_two_numbers_the_mean_is_kept():
    """1 + 2⁻⁹ is a quarter of the way from 1 to the next number, 1 + 2⁻⁷."""
    found = at_random(jnp.full(40_000, 1 + 2**-9), KEY).astype(jnp.float32)
    assert np.unique(found).tolist() == [1.0, 1 + 2**-7]
    assert float((found > 1).mean()) == pytest.approx(0.25, abs=0.01)


def test_what_is_exact_stays():
    exact = jnp.array([0.0, 1.0, -2.5, jnp.inf, 2.0**-126])
    np.testing.assert_array_equal(at_random(exact, KEY).astype(jnp.float32), exact)
    assert jnp.isnan(at_random(jnp.array([jnp.nan]), KEY)).all()


def fallen(tx, state, updates):
    """The second moment after so many updates with a gradient of 0."""
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape), state.nu)
    step = lambda state, _: (tx.update(zero, state)[1], None)
    return jax.lax.scan(step, state, length=updates)[0].nu["w"].astype(jnp.float32)


def test_the_second_moment_falls_which_to_the_nearest_it_does_not():
    """0.999⁵⁰⁰ = .606 of it is left; rounded to the nearest number, all of it."""
    nu = {"w": jnp.ones(4096, HALF)}
    begun = optax.ScaleByAdamState(jnp.zeros([], jnp.int32), nu, nu)
    found = fallen(scale_by_adam_in_bfloat16(), begun, 500)
    assert float(found.mean()) == pytest.approx(0.999**500, rel=0.01)
    assert float(found.std() / found.mean()) < 2**-4  # 6 % in the long run
    nearest = fallen(optax.scale_by_adam(mu_dtype=HALF), begun, 500)
    assert set(nearest.tolist()) == {1.0}


def test_a_run_that_goes_on_draws_the_same():
    tx = scale_by_adam_in_bfloat16()
    gradient = {"w": jax.random.normal(KEY, (100,))}
    _, state = tx.update(gradient, tx.init(gradient))
    one, two = (tx.update(gradient, state)[1].nu["w"] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    _, later = tx.update(gradient, state._replace(count=state.count + 1))
    assert (later.nu["w"] != one).any()


PARAMS = {"a": jnp.zeros((8, 4)), "b": jnp.zeros(8)}
APPLY = lambda params, input_ids, attention_mask: params["a"][input_ids]


def kept(made, optimizers=1):
    """Bytes of an optimizer's moments, and their dtypes."""
    state = jax.eval_shape(made.init, PARAMS)
    states = jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "nu"))
    found = [x for x in states if hasattr(x, "nu")]
    assert len(found) == optimizers
    leaves = jax.tree.leaves((found[0].mu, found[0].nu))
    return sum(x.size * x.dtype.itemsize for x in leaves)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_method_and_fine_tuning_keep_them_so(dtype):
    run = Demo(moments_dtype=dtype)
    expected = 2 * 40 * jnp.dtype(dtype).itemsize
    task: Any = types.SimpleNamespace(loss_apply_fn=APPLY)
    domain = LanguageDomain(run, fictitious_people(0, 4, 1), "", task, {}, {})
    training = domain.training(TARGET, 0)
    assert training is not None and kept(training.method) == expected
    hidden = lambda layer: APPLY
    for name in METHODS:
        config = run.config_of(name)
        made = of_model(name, config, 99, APPLY, hidden, moments_dtype=dtype)
        assert kept(made, 2 if name == "saul" else 1) == expected, name


def test_another_dtype_is_another_run():
    assert Demo().rounding == ()
    assert Demo(moments_dtype="bfloat16").rounding == ("moments bfloat16",)
