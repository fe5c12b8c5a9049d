"""Forms of both terms that take no second derivatives: look-ahead and value gap."""

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

# L_f = −‖Aθ‖²/2, which 0 bounds, and L_r = ‖θ − b‖²/2.
A, B = np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([1.0, -2.0])
THETA = np.array([0.5, 0.25])
FORGET = lambda p, step: -0.5 * jnp.sum((A @ p) ** 2)
RETAIN = lambda p, step: 0.5 * jnp.sum((p - B) ** 2)
LOSSES = {"forget_loss": FORGET, "retain_loss": RETAIN}
G_F, G_R = (lambda p: -A.T @ A @ p), (lambda p: p - B)
ETA_IN, ETA_OUT, BETA, RHO = 0.1, 0.2, 0.03, 0.5


def losses_at(step=0):
    return [functools.partial(f, step=step) for f in (FORGET, RETAIN)]


def transform(**options):
    options = {"inner_steps": 1, "beta": 0.0, "rho": 0.0} | options
    return ofmu_jax.ofmu(optax.sgd(ETA_OUT), optax.sgd(ETA_IN), **options)


def after(tx, updates):
    """θ after that many updates, and the last state."""
    theta, state = jnp.asarray(THETA), tx.init(jnp.asarray(THETA))
    step = jax.jit(functools.partial(tx.update, None, **LOSSES))
    for _ in range(updates):
        change, state = step(state, theta)
        theta = optax.apply_updates(theta, change)
    return np.asarray(theta), state


def shift(theta, g_f, g_r, beta=BETA, longest=np.inf):
    """−βS'(c)u_f with S = c², from its definition."""
    n_f, n_r = np.linalg.norm(g_f), np.linalg.norm(g_r)
    c = g_f @ g_r / (n_f * n_r)
    u = (g_r / n_r - c * g_f / n_f) / n_f
    found = -beta * 2 * c * u
    limit = longest * np.linalg.norm(theta)
    return found * min(1, limit / np.linalg.norm(found)), c


# --- the look-ahead ---------------------------------------------------------------


@pytest.mark.parametrize("direction", ["fresh", "held"])
@pytest.mark.parametrize("similarity", bilevel.SIMILARITIES)
def test_the_look_ahead_is_exact_to_first_order_in_beta(direction, similarity):
    with jax.enable_x64(True):
        params, losses = problem(jnp.float64)
        forget, retain = (lambda p, f=f: f(p, 0) for f in losses.values())
        held = None
        if direction == "held":
            held = bilevel.unit(jax.grad(retain)(params))[0]

        def error(beta):
            options = {"beta": beta, "similarity": similarity}
            exact, ahead = (
                bilevel.evaluate_phi(
                    params,
                    forget,
                    retain,
                    curvature=curvature,
                    retain_direction=held,
                    **options,
                ).gradient
                for curvature in ("vjp", "lookahead")
            )
            return float(optax.tree.norm(optax.tree.sub(exact, ahead)))

        errors = [error(beta) for beta in (1e-2, 1e-3)]
        np.testing.assert_allclose(errors[0] / errors[1], 100, rtol=0.05)
        # The term itself is of first order: the look-ahead has nearly all of it.
        without = float(optax.tree.norm(jax.grad(forget)(params)))
        assert 1e-8 < errors[1] < 1e-4 * without


@pytest.mark.parametrize("direction", ["fresh", "frozen"])
def test_for_quadratic_losses_it_is_exact(direction):
    # Hessians are constant, so that no step is too long.
    with jax.enable_x64(True):
        options = {"beta": BETA, "similarity": "squared_cosine", "inner_steps": 3}
        options |= {"retain_direction": direction, "lookahead_max_step": 1e3}
        if direction == "frozen":
            options["inner_steps"] = 1  # more, and the look-ahead would be held
        exact, _ = after(transform(curvature="vjp", **options), 1)
        ahead, _ = after(transform(curvature="lookahead", **options), 1)
        without, _ = after(transform(inner_steps=options["inner_steps"]), 1)
        np.testing.assert_allclose(ahead, exact, rtol=1e-12)
        assert np.abs(exact - without).max() > 1e-4


@pytest.mark.parametrize("longest", [1e3, 1e-2])
def test_two_updates_with_a_carried_look_ahead_by_hand(longest):
    with jax.enable_x64(True):
        tx = transform(
            beta=BETA,
            similarity="squared_cosine",
            curvature="lookahead",
            retain_direction="carried",
            outer_steps=2,
            lookahead_max_step=longest,
        )
        theta, ahead = THETA, np.zeros(2)  # nothing is carried into the first one
        for _ in range(2):
            g_f = G_F(theta + ahead)
            warm = theta + ETA_IN * g_f
            between = warm - ETA_OUT * G_R(warm)
            theta = between - ETA_OUT * G_R(between)
            ahead, c = shift(warm, g_f, G_R(between), longest=longest)
        got, state = after(tx, 2)
        np.testing.assert_allclose(got, theta, rtol=1e-12)
        np.testing.assert_allclose(state.carried, ahead, rtol=1e-10)
        np.testing.assert_allclose(state.cosine, c, rtol=1e-12)
        if longest < 1:
            length = longest * np.linalg.norm(warm)
            np.testing.assert_allclose(np.linalg.norm(ahead), length, rtol=1e-12)


def test_a_carried_direction_is_that_of_the_last_outer_step():
    with jax.enable_x64(True):
        common = {"beta": BETA, "similarity": "squared_cosine", "inner_steps": 2}
        tx = transform(retain_direction="carried", **common)
        first, state = after(tx, 1)
        plain, _ = after(transform(inner_steps=2), 1)
        np.testing.assert_allclose(first, plain, rtol=1e-12)
        warm = np.asarray(THETA)
        for _ in range(2):
            warm = warm + ETA_IN * G_F(warm)
        g_r = G_R(warm)
        np.testing.assert_allclose(state.carried, g_r / np.linalg.norm(g_r), rtol=1e-12)
        second, _ = after(tx, 2)
        held = bilevel.inner_ascent(
            jnp.asarray(first),
            FORGET,
            RETAIN,
            inner_optimizer=optax.sgd(ETA_IN),
            inner_steps=2,
            beta=BETA,
            similarity="squared_cosine",
            retain_direction=jnp.asarray(state.carried),
        ).params
        np.testing.assert_allclose(second, held - ETA_OUT * G_R(held), rtol=1e-12)


def test_gradients_that_are_not_finite_are_not_carried():
    tx = transform(beta=0.1, curvature="lookahead", retain_direction="carried")
    theta = jnp.asarray(THETA, jnp.float32)
    _, state = tx.update(None, tx.init(theta), theta, **LOSSES)
    bad = LOSSES | {"forget_loss": lambda p, step: jnp.nan * jnp.sum(p)}
    _, later = tx.update(None, state, theta, **bad)
    assert float(jnp.abs(state.carried).max()) > 0
    np.testing.assert_array_equal(later.carried, 0)
    np.testing.assert_array_equal(later.cosine, 0)


# --- the value gap ----------------------------------------------------------------


@pytest.mark.parametrize("similarity", bilevel.SIMILARITIES)
def test_the_outer_gradient_of_the_value_gap(similarity):
    with jax.enable_x64(True):
        params, losses = problem(jnp.float64)
        forget, retain = (lambda p, f=f: f(p, 0) for f in losses.values())
        options = {"beta": 0.7, "rho": 0.3, "similarity": similarity}
        options |= {"penalty": "value_gap", "maximum": 50.0}
        outer = functools.partial(
            ofmu_jax.outer_objective, forget_loss=forget, retain_loss=retain, **options
        )
        got = ofmu_jax.outer_gradient(params, forget, retain, **options)
        chex.assert_trees_all_close(got, jax.grad(outer)(params), rtol=1e-9)
        # Beyond the maximum there is no gap, and only the retain gradient is left.
        options["maximum"] = -50.0
        beyond = ofmu_jax.outer_gradient(params, forget, retain, **options)
        chex.assert_trees_all_close(beyond, jax.grad(retain)(params), rtol=1e-12)


@pytest.mark.parametrize("how", ["exact", "carried"])
def test_the_update_of_the_value_gap_by_hand(how):
    with jax.enable_x64(True):
        options = {"penalty": "value_gap", "maximum": 0.0, "penalty_gradient": how}
        got, state = after(transform(rho=RHO, outer_steps=2, **options), 1)
        g_f = G_F(THETA)
        theta = THETA + ETA_IN * g_f
        at_warm = theta
        for _ in range(2):
            pull = G_F(theta) if how == "exact" else g_f
            theta = theta - ETA_OUT * (G_R(theta) - RHO * pull)
        np.testing.assert_allclose(got, theta, rtol=1e-12)
        looked = at_warm if how == "exact" else THETA
        np.testing.assert_allclose(state.phi, -0.5 * np.sum((A @ looked) ** 2))
        g_r, seen = G_R(at_warm), G_F(looked)
        c = g_r @ seen / (np.linalg.norm(g_r) * np.linalg.norm(seen))
        np.testing.assert_allclose(state.cosine, c, rtol=1e-12)


def test_the_pull_of_the_value_gap_is_clipped():
    with jax.enable_x64(True):
        options = {"penalty": "value_gap", "maximum": 0.0, "penalty_clip": 0.5}
        got, _ = after(transform(rho=1e3, **options), 1)
        warm = THETA + ETA_IN * G_F(THETA)
        g_r, g_f = G_R(warm), G_F(warm)
        pull = 0.5 * np.linalg.norm(g_r) * g_f / np.linalg.norm(g_f)
        np.testing.assert_allclose(got, warm - ETA_OUT * (g_r - pull), rtol=1e-12)


def test_an_adaptive_rho_follows_the_gap():
    # The gap is ‖Aθ‖²/2, and nothing moves: .8125 at θ = (.5, .25).
    still = {"inner_optimizer": optax.sgd(0.0), "outer_optimizer": optax.sgd(0.0)}
    options = {"penalty": "value_gap", "maximum": 0.0, "penalty_gradient": "carried"}
    rho = ofmu_jax.AdaptiveRho(initial=0.25, rate=2.0, tolerance=0.75, largest=0.45)
    tx = ofmu_jax.ofmu(inner_steps=1, beta=0.0, rho=rho, **still, **options)
    theta, found = jnp.asarray(THETA, jnp.float32), []
    state = tx.init(theta)
    for factor in (1.0, 1.0, jnp.nan, 0.0, 1.0):
        scaled = lambda p, step, factor=factor: factor * FORGET(p, step)
        _, state = tx.update(None, state, theta, forget_loss=scaled, retain_loss=RETAIN)
        found.append(float(state.rho))
    # + 2 · (.8125 − .75), twice, to at most .45; kept on NaN; − 2 · .75, to at least 0.
    np.testing.assert_allclose(found, [0.25, 0.375, 0.45, 0.45, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": "value_gap", "rho": 0.1}, "pass maximum="),
        ({"rho": "adaptive"}, "pass maximum="),
        ({"rho": "rising"}, "rho='rising'"),
        ({"penalty": "gap"}, "penalty='gap'"),
        (
            {"penalty": "value_gap", "penalty_gradient": "secant", "maximum": 0.0},
            r"none of penalty='value_gap'; choose one of \('exact', 'carried'\)",
        ),
        ({"penalty_gradient": "carried"}, "none of penalty='gradient_norm'"),
        ({"inner_steps": 0, "retain_direction": "carried"}, "no inner step"),
    ],
)
def test_options_that_do_not_fit(options, message):
    options = {"beta": 0.1, "rho": 0.1} | options
    with pytest.raises(ValueError, match=message):
        ofmu_jax.ofmu(optax.sgd(0.1), optax.sgd(0.1), **options)
    if "maximum" in message:
        with pytest.raises(ValueError, match=message):
            ofmu_jax.outer_gradient(
                jnp.asarray(THETA),
                *losses_at(),
                beta=0.0,
                rho=1.0,
                penalty="value_gap",
            )


def test_without_a_penalty_its_options_say_nothing():
    plain, _ = after(transform(), 1)
    odd, _ = after(transform(penalty="value_gap", penalty_gradient="secant"), 1)
    np.testing.assert_array_equal(plain, odd)


def test_the_state_can_be_donated():
    params, losses = problem()
    tx = make("first_order")
    step = jax.jit(functools.partial(tx.update, None, **losses), donate_argnums=0)
    state = tx.init(params)
    for _ in range(2):
        _, state = step(state, params)
    assert state.phi < 8.9 and state.rho > 0.1  # ρ rose from .1 with the gap
