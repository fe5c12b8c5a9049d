"""The update of the `ofmu` transform against the algorithm written out."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from transform_toys import make, problem

import ofmu_jax
from ofmu_jax import bilevel
from ofmu_jax.transform import METRICS


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
