"""One contract for every configuration of the `ofmu` transform."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import rest_slow
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from transform_toys import CONFIGURATIONS, batches, losses_on, make, problem

import ofmu_jax

# Those that differ most.
KEPT = "default", "outer_base", "jvp", "differences", "frozen_secant", "first_order"
SOME = rest_slow(CONFIGURATIONS, KEPT)


@functools.cache
def compiled(name, dtype=jnp.float32):
    """A step that must not be traced twice, and where it begins: one for all tests."""
    params, _ = problem(dtype)
    tx = make(name)
    chex.clear_trace_counter()

    def step(params, state, batches):
        losses = losses_on(batches)
        updates, state = tx.update(None, state, params, **losses, unrelated=1)
        return updates, (optax.apply_updates(params, updates), state)

    once = jax.jit(chex.assert_max_traces(step, n=1))
    return once, step, (params, tx.init(params))


def keeps_shapes_and_dtypes(name, dtype):
    step, _, carry = compiled(name, dtype)
    start = carry[0]
    for _ in range(3):
        _, new = step(*carry, batches())
        chex.assert_trees_all_equal_shapes_and_dtypes(new, carry)
        carry = new
    chex.assert_tree_all_finite(carry)
    assert int(carry[1].outer_iteration) == 3
    assert not np.array_equal(carry[0]["w"], start["w"])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_jit_traces_once_and_keeps_shapes_and_dtypes(name):
    keeps_shapes_and_dtypes(name, jnp.float32)


@pytest.mark.parametrize("name", SOME)
def test_in_bfloat16_too(name):
    keeps_shapes_and_dtypes(name, jnp.bfloat16)


@pytest.mark.parametrize("name", SOME)
def test_composes_in_a_chain_and_under_multi_steps(name):
    step, _, (params, state) = compiled(name)
    expected, _ = step(params, state, batches())
    losses, grads = problem()[1], optax.tree.zeros_like(params)

    chained = optax.chain(make(name), optax.scale(2.0))
    every_second = optax.MultiSteps(chained, every_k_schedule=2)
    update = jax.jit(functools.partial(every_second.update, **losses))
    state = every_second.init(params)
    updates, state = update(grads, state, params)
    chex.assert_trees_all_equal(updates, grads)
    updates, state = update(grads, state, params)
    chex.assert_trees_all_close(
        updates, optax.tree.scale(2, expected), rtol=2e-3, atol=2e-6
    )


@pytest.mark.parametrize("name", SOME)
def test_eight_devices_give_the_update_of_one(name):
    on_one, step, (params, state) = compiled(name)
    expected, _ = on_one(params, state, batches())
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    spread = jax.device_put(params, rows)
    batch = jax.device_put(batches(), NamedSharding(mesh, PartitionSpec(None, "data")))
    updates, _ = jax.jit(step)(spread, make(name).init(spread), batch)
    loose = "differences" in name  # differences amplify the order of summation
    chex.assert_trees_all_close(
        updates, expected, rtol=0.05 if loose else 1e-4, atol=1e-4 if loose else 1e-6
    )


def test_inject_hyperparams_traces_the_weights():
    params, losses = problem()
    factory = optax.inject_hyperparams(
        ofmu_jax.ofmu, static_args=("inner_steps", "outer_steps")
    )
    options = {"inner_steps": 2, "rho": optax.linear_schedule(1e-2, 1e-1, 10)}
    tx = factory(optax.sgd(1e-2), optax.sgd(1e-2), beta=0.3, **options)
    state = tx.init(params)
    update = jax.jit(functools.partial(tx.update, **losses))
    updates, state = update(None, state, params)
    plain = ofmu_jax.ofmu(optax.sgd(1e-2), optax.sgd(1e-2), beta=0.3, **options)
    expected, _ = plain.update(None, plain.init(params), params, **losses)
    chex.assert_trees_all_close(updates, expected, rtol=1e-4, atol=1e-7)

    state.hyperparams["beta"] = jnp.zeros(())
    without, _ = update(None, state, params)
    assert not np.allclose(without["w"], updates["w"], rtol=1e-3)
    with pytest.raises(ValueError, match="static_args"):
        optax.inject_hyperparams(ofmu_jax.ofmu)(optax.sgd(1.0), optax.sgd(1.0)).init(
            params
        )


def test_masked_trains_a_part_as_if_the_rest_were_constant():
    params, losses = problem()
    labels = {"w": "train", "v": "freeze"}
    tx = optax.partition({"train": make(), "freeze": optax.set_to_zero()}, labels)
    masked = {
        name: lambda p, i, loss=loss: loss(ofmu_jax.fill_masked(p, params), i)
        for name, loss in losses.items()
    }
    grads = optax.tree.zeros_like(params)
    updates, _ = tx.update(grads, tx.init(params), params, **masked)

    part = {"w": params["w"]}
    alone = {
        name: lambda p, i, loss=loss: loss({**p, "v": params["v"]}, i)
        for name, loss in losses.items()
    }
    plain = make()
    expected, _ = plain.update(None, plain.init(part), part, **alone)
    chex.assert_trees_all_close(updates["w"], expected["w"], rtol=1e-5)
    np.testing.assert_array_equal(updates["v"], 0)


def test_linen_and_nnx_models():
    x = jax.random.normal(jax.random.key(0), (8, 4))
    y_forget, y_retain = jnp.ones((8, 1)), -jnp.ones((8, 1))

    linen = nn.Dense(1)
    variables = linen.init(jax.random.key(1), x)
    model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model, nnx.Param)
    state["kernel"].set_value(variables["params"]["kernel"])
    state["bias"].set_value(variables["params"]["bias"])

    def losses(apply):
        return {
            "forget_loss": lambda p, i: jnp.mean((apply(p) - y_forget) ** 2),
            "retain_loss": lambda p, i: jnp.mean((apply(p) - y_retain) ** 2),
        }

    tx = make()
    first = lambda params, apply: jax.jit(
        functools.partial(tx.update, **losses(apply))
    )(None, tx.init(params), params)
    from_linen, _ = first(variables, lambda p: linen.apply(p, x))
    from_nnx, _ = first(state, lambda p: nnx.merge(graph, p)(x))
    chex.assert_trees_all_close(
        from_nnx["kernel"].get_value(), from_linen["params"]["kernel"], rtol=1e-5
    )
    nnx.update(model, optax.apply_updates(state, from_nnx))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "dot"}, "similarity='dot'"),
        ({"base": "middle"}, "base='middle'"),
        ({"curvature": "hessian"}, "curvature='hessian'"),
        ({"retain_direction": "stale"}, "retain_direction='stale'"),
        ({"penalty_gradient": "none"}, "penalty_gradient='none'"),
        ({"inner_steps": -1}, "inner_steps must be at least 0, got -1"),
        ({"outer_steps": 0}, "outer_steps must be at least 1, got 0"),
        ({"inner_steps": 2.0}, "inner_steps must be a Python int, got 2.0"),
        ({"inner_steps": 0, "penalty_gradient": "secant"}, "no inner step"),
        ({"inner_steps": 0, "rho": 0.0}, "no inner step"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_missing_losses_or_params_are_named():
    params, losses = problem()
    tx = make()
    with pytest.raises(ValueError, match="needs params and both losses"):
        tx.update(None, tx.init(params), params, retain_loss=losses["retain_loss"])
    with pytest.raises(ValueError, match="needs params and both losses"):
        tx.update(None, tx.init(params), None, **losses)
