"""One contract for every configuration of the `ofmu` transform, and its answers."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import ofmu_jax
from ofmu_jax import bilevel
from ofmu_jax.transform import METRICS

CONFIGURATIONS = {
    "default": {},
    "squared": {"similarity": "squared_cosine"},
    "outer_base": {"base": "outer"},
    "linearize": {"curvature": "linearize"},
    "jvp": {"curvature": "jvp"},
    "differences": {
        "curvature": "finite_difference",
        "penalty_gradient": "finite_difference",
    },
    "exact_over_differences": {"curvature": "finite_difference"},
    "frozen_secant": {"retain_direction": "frozen", "penalty_gradient": "secant"},
    "clipped_outer_steps": {"outer_steps": 3, "penalty_clip": 1.0},
    "no_penalty": {"rho": 0.0},
    "no_similarity": {"beta": 0.0},
    "target": {"forget_target": 1.0},
    "adam_inside": {"inner_optimizer": optax.adam(1e-2)},
}


def make(name="default", **changes):
    options = {
        "outer_optimizer": optax.adamw(1e-2),
        "inner_optimizer": optax.sgd(1e-2),
        "inner_steps": 2,
        "beta": 0.3,
        "rho": optax.exponential_decay(1e-2, 1, 1.1),
    }
    return ofmu_jax.ofmu(**(options | CONFIGURATIONS[name] | changes))


def problem(dtype=jnp.float32):
    """Parameters and step-indexed losses over stacked minibatches (T + 3)."""
    keys = jax.random.split(jax.random.key(0), 6)
    params = {
        "w": jax.random.normal(keys[0], (4, 6), dtype) / 2,
        "v": jax.random.normal(keys[1], (6, 2), dtype),
    }

    def loss(x, y, theta, step):
        x, y = (z[step].astype(theta["w"].dtype) for z in (x, y))
        return jnp.mean((jnp.tanh(x @ theta["w"]) @ theta["v"] - y) ** 2)

    losses = [
        functools.partial(
            loss,
            jax.random.normal(keys[i], (5, 8, 4)),
            jax.random.normal(keys[i + 1], (5, 8, 2)),
        )
        for i in (2, 4)
    ]
    return params, dict(zip(("forget_loss", "retain_loss"), losses, strict=True))


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_jit_traces_once_and_keeps_shapes_and_dtypes(name, dtype):
    params, losses = problem(dtype)
    tx = make(name)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state):
        updates, state = tx.update(None, state, params, **losses, unrelated=1)
        return optax.apply_updates(params, updates), state

    carry = (params, tx.init(params))
    for _ in range(3):
        new = step(*carry)
        chex.assert_trees_all_equal_shapes_and_dtypes(new, carry)
        carry = new
    chex.assert_tree_all_finite(carry)
    assert int(carry[1].outer_iteration) == 3
    assert not np.array_equal(carry[0]["w"], params["w"])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_composes_in_a_chain_and_under_multi_steps(name):
    params, losses = problem()
    plain, grads = make(name), optax.tree.zeros_like(params)
    expected, _ = jax.jit(functools.partial(plain.update, **losses))(
        grads, plain.init(params), params
    )

    chained = optax.chain(make(name), optax.scale(2.0))
    updates, _ = jax.jit(functools.partial(chained.update, **losses))(
        grads, chained.init(params), params
    )
    chex.assert_trees_all_close(
        updates, optax.tree.scale(2, expected), rtol=2e-3, atol=1e-6
    )

    every_second = optax.MultiSteps(make(name), every_k_schedule=2)
    update = jax.jit(functools.partial(every_second.update, **losses))
    state = every_second.init(params)
    updates, state = update(grads, state, params)
    chex.assert_trees_all_equal(updates, grads)
    updates, state = update(grads, state, params)
    chex.assert_trees_all_close(updates, expected, rtol=2e-3, atol=1e-6)


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


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_eight_devices_give_the_update_of_one(name):
    # Plain SGD outside: Adam's first step is the sign of the gradient, and would
    # turn rounding at entries near 0 into whole steps.
    params = {"w": jax.random.normal(jax.random.key(1), (8, 16))}
    x = jax.random.normal(jax.random.key(2), (2, 32, 8))

    def loss(index):
        def of(p, step, x):
            return jnp.mean(jnp.sin(x[index] @ p["w"] + index) ** 2)

        return of

    options = {"outer_optimizer": optax.sgd(1e-2)}
    if name == "adam_inside":
        options["inner_optimizer"] = optax.adam(1e-2, eps=1e-2)
    tx = make(name, **options)

    @jax.jit
    def step(params, state, x):
        losses = {
            f"{part}_loss": lambda p, i, k=k: loss(k)(p, i, x)
            for k, part in enumerate(("forget", "retain"))
        }
        return tx.update(None, state, params, **losses)

    state = tx.init(params)
    expected, _ = step(params, state, x)
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    spread = jax.device_put(params, rows)
    batch = jax.device_put(x, NamedSharding(mesh, PartitionSpec(None, "data")))
    updates, _ = step(spread, tx.init(spread), batch)
    loose = "differences" in name  # differences amplify the order of summation
    chex.assert_trees_all_close(
        updates, expected, rtol=0.05 if loose else 1e-4, atol=1e-4 if loose else 1e-6
    )


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
    from_linen, _ = tx.update(
        None,
        tx.init(variables),
        variables,
        **losses(lambda p: linen.apply(p, x)),
    )
    from_nnx, _ = tx.update(
        None, tx.init(state), state, **losses(lambda p: nnx.merge(graph, p)(x))
    )
    chex.assert_trees_all_close(
        from_nnx["kernel"].get_value(), from_linen["params"]["kernel"], rtol=1e-5
    )
    nnx.update(model, optax.apply_updates(state, from_nnx))


def unrolled(params, losses, *, base, penalty_clip=None, outer_steps=1):
    """Two plain iterations of the algorithm, written out from the definitions."""
    theta, rates = params, {"inner": 0.02, "outer": 0.05}
    forget, retain = losses["forget_loss"], losses["retain_loss"]
    for k in range(2):
        rho, warm, total = 1e-2 * 1.1**k, theta, None
        for i in range(2):
            ascent = jax.grad(
                lambda p, i=i: ofmu_jax.inner_objective(
                    p, lambda q: forget(q, i), lambda q: retain(q, i), beta=0.3
                )
            )(warm)
            warm = optax.tree.add_scale(warm, rates["inner"], ascent)
        total = optax.tree.zeros_like(theta)
        for j in range(2, 2 + outer_steps):
            f, r = (lambda q, j=j, loss=loss: loss(q, j) for loss in (forget, retain))
            g_r = jax.grad(r)(warm)
            penalty = jax.grad(
                lambda p, f=f, r=r, rho=rho: (
                    ofmu_jax.outer_objective(p, f, lambda q: r(q), beta=0.3, rho=rho)
                    - r(p)
                )
            )(warm)
            if penalty_clip is not None:
                limit = penalty_clip * optax.tree.norm(g_r)
                scale = jnp.minimum(1, limit / optax.tree.norm(penalty))
                penalty = optax.tree.scale(scale, penalty)
            change = optax.tree.scale(-rates["outer"], optax.tree.add(g_r, penalty))
            warm = optax.tree.add(warm, change)
            total = optax.tree.add(total, change)
        theta = warm if base == "inner" else optax.tree.add(theta, total)
    return theta


@pytest.mark.parametrize(
    "options",
    [
        {"base": "inner"},
        {"base": "outer"},
        {"base": "inner", "outer_steps": 3, "penalty_clip": 1e-3},
        {"base": "outer", "outer_steps": 2},
    ],
)
def test_two_iterations_equal_the_algorithm_written_out(options):
    with jax.enable_x64(True):
        params, losses = problem(jnp.float64)
        tx = make(
            outer_optimizer=optax.sgd(0.05), inner_optimizer=optax.sgd(0.02), **options
        )
        theta, state = params, tx.init(params)
        update = jax.jit(functools.partial(tx.update, None, **losses))
        for _ in range(2):
            updates, state = update(state, theta)
            theta = optax.apply_updates(theta, updates)
        expected = jax.jit(lambda p: unrolled(p, losses, **options))(params)
        chex.assert_trees_all_close(theta, expected, rtol=1e-7)  # ρ is float32
        np.testing.assert_allclose(state.rho, 1.1e-2, rtol=1e-6)


def test_state_shows_the_problem_at_the_warm_start():
    params, losses = problem()
    tx = make(inner_optimizer=optax.sgd(0.0), beta=0.3)
    _, state = tx.update(None, tx.init(params), params, **losses)
    forget = lambda p: losses["forget_loss"](p, 2)
    retain = lambda p: losses["retain_loss"](p, 2)
    gradient = ofmu_jax.inner_gradient(params, forget, retain, beta=0.3)
    expected = {
        "phi": ofmu_jax.inner_objective(params, forget, retain, beta=0.3),
        "forget_loss": forget(params),
        "retain_loss": retain(params),
        "cosine": bilevel.cosine(jax.grad(forget)(params), jax.grad(retain)(params)),
        "phi_grad_norm": optax.tree.norm(gradient),
        "rho": 1e-2,
    }
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(state, name), value, rtol=1e-5)


def test_secant_update_approaches_the_exact_one():
    with jax.enable_x64(True):
        params, losses = problem(jnp.float64)
        same_batch = {k: lambda p, i, f=f: f(p, 0) for k, f in losses.items()}

        def update(eta, **options):
            tx = make(
                outer_optimizer=optax.sgd(1.0),
                inner_optimizer=optax.sgd(eta),
                rho=1.0,
                **options,
            )
            updates, _ = tx.update(None, tx.init(params), params, **same_batch)
            return updates

        errors = []
        for eta in (1e-4, 1e-5):
            exact, secant = update(eta), update(eta, penalty_gradient="secant")
            difference = optax.tree.norm(optax.tree.sub(secant, exact))
            errors.append(float(difference / optax.tree.norm(exact)))
        np.testing.assert_allclose(errors[0] / errors[1], 10, rtol=0.1)
        assert errors[1] < 1e-2


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


def test_zero_inner_steps_descend_the_penalised_objective():
    params, losses = problem()
    tx = make(inner_steps=0, outer_optimizer=optax.sgd(1.0), rho=0.1)
    updates, _ = tx.update(None, tx.init(params), params, **losses)
    expected = ofmu_jax.outer_gradient(
        params,
        lambda p: losses["forget_loss"](p, 0),
        lambda p: losses["retain_loss"](p, 0),
        beta=0.3,
        rho=0.1,
    )
    chex.assert_trees_all_close(updates, optax.tree.scale(-1, expected), rtol=1e-4)
