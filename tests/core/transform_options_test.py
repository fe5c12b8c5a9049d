"""What goes into the `ofmu` transform: signature, trees, optimizers, dtypes, losses."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ofmu_jax

FORGET = lambda p, step: jnp.sum(jnp.sin(p["w"])) - 0.5 * jnp.sum(p["w"] ** 2)
RETAIN = lambda p, step: jnp.sum((p["w"] - 1.0) ** 2)
LOSSES = {"forget_loss": FORGET, "retain_loss": RETAIN}
PARAMS = {"w": jnp.array([0.3, -0.7, 1.2])}


def sgd(**options):
    options = {"inner_steps": 1, "rho": 1e-2} | options
    return ofmu_jax.ofmu(optax.sgd(0.1), optax.sgd(0.1), **options)


def update(tx, params=PARAMS, grads=None, losses=LOSSES, **extra):
    step = jax.jit(functools.partial(tx.update, **losses, **extra))
    return step(grads, tx.init(params), params)


def test_the_promised_signature():
    parameters = inspect.signature(ofmu_jax.ofmu).parameters
    defaults = {name: p.default for name, p in parameters.items()}
    promised = {
        "inner_steps": 5,
        "beta": 0.1,
        "similarity": "cosine",
        "base": "inner",
        "curvature": "vjp",
        "outer_steps": 1,
        "retain_direction": "fresh",
        "penalty_gradient": "exact",
    }
    assert list(parameters)[:2] == ["outer_optimizer", "inner_optimizer"]
    assert {name: defaults[name] for name in promised} == promised
    assert "rho" in defaults


def test_the_given_gradient_is_never_trusted():
    tx = sgd()
    expected, _ = update(tx)
    for grads in ({"w": jnp.full(3, jnp.nan)}, jax.grad(RETAIN)(PARAMS, 0)):
        got, _ = update(tx, grads=grads, unknown="ignored")
        chex.assert_trees_all_equal(got, expected)


def test_one_update_by_hand():
    # β = 0: θ' = θ + .1 ∇L_f; ∇Φ = cos θ' − θ', ∇²Φ∇Φ = (−sin θ' − 1) ∇Φ.
    updates, state = update(sgd(beta=0.0))
    w = np.asarray(PARAMS["w"], np.float64)
    warm = w + 0.1 * (np.cos(w) - w)
    gradient = np.cos(warm) - warm
    outer = 2 * (warm - 1) + 2e-2 * (-np.sin(warm) - 1) * gradient
    np.testing.assert_allclose(updates["w"], warm - 0.1 * outer - w, rtol=1e-5)
    np.testing.assert_allclose(state.phi_grad_norm, np.linalg.norm(gradient), rtol=1e-5)
    np.testing.assert_allclose(state.retain_loss, np.sum((warm - 1) ** 2), rtol=1e-5)


def test_the_penalty_is_clipped_to_a_multiple_of_the_retain_gradient():
    # ρ is so large that the penalty is cut; what is left of it has norm .5 ‖∇L_r‖.
    options = {"inner_steps": 0, "beta": 0.0, "rho": 1e6, "penalty_clip": 0.5}
    updates, _ = update(sgd(**options))
    g_r = jax.grad(RETAIN)(PARAMS, 0)["w"]
    penalty = updates["w"] / -0.1 - g_r
    np.testing.assert_allclose(
        jnp.linalg.norm(penalty), 0.5 * jnp.linalg.norm(g_r), rtol=1e-4
    )


def test_masked_leaves_the_rest_to_the_given_updates():
    params = PARAMS | {"frozen": jnp.ones(2)}
    tx = optax.masked(sgd(), {"w": True, "frozen": False})
    losses = {
        name: lambda p, i, loss=loss: loss(ofmu_jax.fill_masked(p, params), i)
        for name, loss in LOSSES.items()
    }
    grads = {"w": jnp.zeros(3), "frozen": jnp.full(2, 7.0)}
    updates, state = update(tx, params, grads, losses)
    chex.assert_trees_all_close(updates["w"], update(sgd())[0]["w"], rtol=1e-6)
    np.testing.assert_array_equal(updates["frozen"], 7)
    assert float(optax.tree.get(state, "rho")) == pytest.approx(1e-2)


OPTIMIZERS = {
    "momentum": optax.sgd(0.01, momentum=0.9, nesterov=True),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0)),
    "scheduled": optax.sgd(optax.cosine_decay_schedule(0.1, 10)),
    "adamw": optax.adamw(1e-2),
    "adafactor": optax.adafactor(1e-2),
    "lion": optax.lion(1e-2),
    "lamb": optax.lamb(1e-2),
    "rprop": optax.rprop(1e-2),
    "muon": optax.contrib.muon(1e-2),
    "schedule_free": optax.contrib.schedule_free_adamw(1e-2),
    "noisy": optax.noisy_sgd(1e-2),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=0.01),
    "plateau": optax.chain(optax.sgd(0.01), optax.contrib.reduce_on_plateau()),
    "polyak": optax.polyak_sgd(0.1),
    "lbfgs": optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_serves_inside_and_outside(name):
    outer, inner = OPTIMIZERS[name], optax.chain(OPTIMIZERS[name], optax.scale(0.5))
    tx = ofmu_jax.ofmu(outer, inner, inner_steps=1, beta=0.0, rho=1e-3)
    state = tx.init(PARAMS)
    step = jax.jit(functools.partial(tx.update, **LOSSES))
    updates, new_state = step(None, state, PARAMS)
    if name == "rprop":  # does not move at first
        updates, new_state = step(None, new_state, PARAMS)
    chex.assert_tree_all_finite(updates)
    assert np.abs(updates["w"]).max() > 0
    chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)


def test_the_outer_optimizer_gets_the_callers_extra_arguments():
    def scale(updates, state, params=None, *, factor, **_):
        return optax.tree.scale(-factor, updates), state

    tx = ofmu_jax.ofmu(
        optax.GradientTransformationExtraArgs(lambda p: (), scale),
        optax.sgd(0.0),
        inner_steps=1,
        beta=0.0,
        rho=0.0,
    )
    updates, _ = update(tx, factor=3.0)
    chex.assert_trees_all_close(
        updates, optax.tree.scale(-3.0, jax.grad(RETAIN)(PARAMS, 0)), rtol=1e-5
    )


def test_a_line_search_inside_ascends_phi():
    # Φ = 5 − ½‖θ − 2‖²: the search accepts step 1, which lands on the maximum.
    optimizer = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(9))
    ascent = ofmu_jax.inner_ascent(
        PARAMS,
        lambda p, step: 5 - 0.5 * jnp.sum((p["w"] - 2) ** 2),
        RETAIN,
        inner_optimizer=optimizer,
        inner_steps=1,
        beta=0.0,
    )
    np.testing.assert_allclose(ascent.params["w"], 2, rtol=1e-5)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        params = {"w": jnp.array([0.3, -0.7, 1.2], jnp.float64)}
        tx = sgd(rho=optax.exponential_decay(1e-3, 1, 1.1))
        state, step = tx.init(params), jax.jit(functools.partial(tx.update, **LOSSES))
        for k in range(3):
            updates, state = step(None, state, params)
            params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(state.rho, 1e-3 * 1.1**k, rtol=1e-12)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(params))
        leaves = jax.tree.leaves((updates, params, state))
        kinds = {str(x.dtype) for x in leaves}
        assert kinds == {"float64", "int32"}


def test_float32_parameters_stay_float32_under_x64():
    params = {"w": np.array([0.3, -0.7, 1.2], np.float32)}
    with jax.enable_x64(True):
        tx = sgd(rho=optax.exponential_decay(1e-3, 1, 1.1))
        state = tx.init(params)
        updates, new = jax.jit(functools.partial(tx.update, None, **LOSSES))(
            state, params
        )
        chex.assert_trees_all_equal_shapes_and_dtypes((updates, new), (params, state))


def test_trees_with_constants_nested_and_idle_leaves():
    params = ({"w": PARAMS["w"]}, [jnp.array([2, 0, 1]), jnp.zeros((0,)), jnp.ones(2)])

    def losses_of(loss):
        return lambda p, step: loss({"w": p[0]["w"][p[1][0]]}, step)

    losses = {name: losses_of(loss) for name, loss in LOSSES.items()}
    decay = optax.chain(optax.add_decayed_weights(10.0), optax.sgd(0.1))
    tx = ofmu_jax.ofmu(decay, optax.sgd(0.1), 1, rho=1e-2, outer_steps=2)
    updates, _ = update(tx, params, None, losses)
    expected, _ = update(tx)
    np.testing.assert_allclose(updates[0]["w"], expected["w"], rtol=1e-4)
    assert updates[1][0].dtype == jnp.int32
    np.testing.assert_array_equal(updates[1][0], 0)  # decay passes constants by
    assert updates[1][1].shape == (0,)
    np.testing.assert_allclose(updates[1][2], -1)  # no loss sees it: 1 → 0 → 0


def test_inner_steps_that_rest_are_counted():
    # L_f is NaN from the third inner step on: the outer step starts from the second.
    losses = LOSSES | {
        "forget_loss": lambda p, i: FORGET(p, i) + jnp.where(i == 2, jnp.nan, 0.0)
    }
    options = {"beta": 0.0, "rho": 0.0}
    updates, state = update(sgd(inner_steps=3, **options), losses=losses)
    expected, _ = update(sgd(inner_steps=2, **options))
    chex.assert_trees_all_close(updates, expected)
    assert int(state.inner_moves) == 2
    assert np.isnan(state.forget_loss)
    _, state = update(sgd(inner_steps=4, forget_target=-100.0))
    assert int(state.inner_moves) == 0


@pytest.mark.parametrize("inner_steps", [0, 1, 3])
def test_loops_written_out_are_the_same_and_no_loops(inner_steps):
    options = {"inner_steps": inner_steps, "outer_steps": 2}
    options["penalty_gradient"] = "finite_difference"  # needs no inner step
    looped, written = (sgd(**options, unroll=unroll) for unroll in (False, True))
    chex.assert_trees_all_close(update(written), update(looped), rtol=1e-5)
    state = looped.init(PARAMS)

    def loops(tx):
        step = functools.partial(tx.update, **LOSSES)
        return str(jax.make_jaxpr(step)(None, state, PARAMS)).count("scan[")

    assert loops(looped) == 2
    assert loops(written) == (1 if inner_steps == 0 else 0)  # one of no step at all


def test_memory_is_that_of_the_algorithm_written_out():
    """Temporary memory of an update over that of its two gradients, at β = ρ = 0."""
    params = {"w": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
    x = jnp.ones((2, 512))
    loss = lambda p, step: jnp.mean(jnp.tanh(x @ p["w"]) ** 2)
    tx = ofmu_jax.ofmu(optax.sgd(0.1), optax.sgd(0.1), 3, beta=0.0, rho=0.0)
    step = functools.partial(tx.update, None, forget_loss=loss, retain_loss=loss)

    def plain(p):
        def ascend(i, q):
            return q + 0.1 * jax.grad(lambda w: loss({"w": w}, i))(q)

        theta = jax.lax.fori_loop(0, 3, ascend, p["w"])
        g_r = jax.grad(lambda w: loss({"w": w}, 3))(theta)
        return theta - 0.1 * g_r - p["w"]

    def memory(function, *arguments):
        compiled = jax.jit(function).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours = memory(step, jax.eval_shape(tx.init, params), params)
    tree = 4 * 512 * 512
    assert ours <= memory(plain, params) + 0.1 * tree
