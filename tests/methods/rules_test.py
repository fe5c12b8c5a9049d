"""Update rules of whole methods on quadratics: BLUR, PDU, frozen values, costs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ofmu_jax import methods
from ofmu_jax.methods.rules.frozen import FORWARD_COST, copy_params

BATCHES = {"forget": jnp.zeros((1, 1)), "retain": jnp.zeros((1, 1))}
# L_f = ½‖x − (3, 0)‖² and L_r = ½‖x − (0, 4)‖²: at 0, g_f = (−3, 0), g_r = (0, −4).
FORGET = lambda p, batch: jnp.sum((p - jnp.array([3.0, 0.0])) ** 2) / 2
RETAIN = lambda p, batch: jnp.sum((p - jnp.array([0.0, 4.0])) ** 2) / 2


def test_blur_direction_of_the_two_published_rules():
    g_f, g_r = jnp.array([2.0, 0.0]), jnp.array([3.0, 5.0])
    # ⟨g_f, g_r⟩ / ‖g_f‖² = 1.5. MUSE: g_r + (γ − 1.5) g_f with γ = 2.
    np.testing.assert_allclose(
        methods.blur_direction(g_f, g_r, forget_weight=2.0), [4.0, 5.0]
    )
    # WMDP: g_f + α (g_r − 1.5 g_f) with α = 800.
    np.testing.assert_allclose(
        methods.blur_direction(g_f, g_r, retain_weight=800.0), [2.0, 4000.0]
    )


def test_blur_direction_without_a_forget_gradient_is_that_of_retain():
    zero, g_r = {"w": jnp.zeros(2)}, {"w": jnp.array([3.0, 5.0])}
    direction = methods.blur_direction(zero, g_r)
    np.testing.assert_allclose(direction["w"], g_r["w"])


def test_blur_direction_of_bfloat16_is_summed_in_float32():
    # 1 + 255 terms of 2⁻⁸ = 1.996, but a bfloat16 sum would stay at 1.
    g_f = jnp.full(256, 2.0**-4, "bfloat16").at[0].set(1.0)
    direction = methods.blur_direction(g_f, g_f)
    assert direction.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(direction, np.float32), g_f, rtol=1e-2)


def test_blur_step_lowers_the_forget_loss_as_if_alone():
    """γ weighs the whole progress on the forget loss, to first order."""
    method = methods.blur(FORGET, RETAIN, optax.sgd(0.1), retain_weight=10.0)
    start = jnp.array([1.0, 1.0])
    params, _, metrics = method.update(start, method.init(start), BATCHES)
    g_f, g_r = np.array([-2.0, 1.0]), np.array([1.0, -3.0])
    expected = g_f + 10 * (g_r - g_f * (g_f @ g_r) / (g_f @ g_f))
    np.testing.assert_allclose((start - params) / 0.1, expected, rtol=1e-4)
    np.testing.assert_allclose(g_f @ expected, g_f @ g_f)
    np.testing.assert_allclose(metrics["cosine"], 5 / np.sqrt(5 * 10), rtol=1e-5)
    assert method.gradient_evaluations == 2


def test_primal_dual_by_hand():
    method = methods.primal_dual(
        FORGET,
        RETAIN,
        optax.sgd(0.1),
        epsilon=7.0,
        forget_weight=2.0,
        multiplier=0.5,
        dual_step=3.0,
        warmup_updates=1,
    )
    params = jnp.zeros(2)
    state = method.init(params)
    # 1: λ = .5 and stays, for it warms up. R = 8.
    params, state, metrics = method.update(params, state, BATCHES)
    np.testing.assert_allclose(params, [0.1 * 2 * 3, 0.1 * 0.5 * 4], rtol=1e-6)
    np.testing.assert_allclose(metrics["retain_loss"], 8.0)
    np.testing.assert_allclose(state.multiplier, 0.5)
    # 2: at (.6, .2) with λ = .5; then R = (.36 + 14.44)/2 = 7.4 and λ = .5 + 3 · .4.
    params, state, metrics = method.update(params, state, BATCHES)
    g_f, g_r = np.array([-2.4, 0.2]), np.array([0.6, -3.8])
    expected = np.array([0.6, 0.2]) - 0.1 * (2 * g_f + 0.5 * g_r)
    np.testing.assert_allclose(params, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["multiplier"], 0.5)
    np.testing.assert_allclose(state.multiplier, 1.7, rtol=1e-5)


def test_primal_dual_lets_go_where_the_constraint_holds():
    method = methods.primal_dual(FORGET, RETAIN, optax.sgd(0.1), epsilon=100.0)
    params = jnp.zeros(2)
    _, state, _ = method.update(params, method.init(params), BATCHES)
    assert float(state.multiplier) == 0.0


def test_primal_dual_meets_its_constraint():
    """min ½‖x − (3, 0)‖² s.t. ½‖x − (0, 4)‖² ≤ 4.5: 3 of the 5 away from (0, 4)."""
    method = methods.primal_dual(
        FORGET, RETAIN, optax.sgd(0.1), epsilon=4.5, dual_step=0.05
    )

    def step(carry, _):
        params, state, _ = method.update(*carry, BATCHES)
        return (params, state), None

    params = jnp.zeros(2)
    carry = (params, method.init(params))
    (params, state), _ = jax.lax.scan(step, carry, length=2000)
    np.testing.assert_allclose(params, [1.8, 1.6], rtol=1e-3)
    np.testing.assert_allclose(state.multiplier, 2 / 3, rtol=1e-3)  # ‖g_f‖ / ‖g_r‖


def test_frozen_parameters_are_those_of_init():
    def build(frozen):
        return methods.gradient_ascent(
            lambda p, b: jnp.sum((p - 2 * frozen) ** 2) / 2, optax.sgd(1.0)
        )

    method = methods.with_frozen(build, forward_passes=1)
    assert method.gradient_evaluations == pytest.approx(4 / 3)
    assert methods.with_frozen(build, forward_passes=3).gradient_evaluations == 2
    params = jnp.array([1.0, -1.0])
    state = method.init(params)
    step = jax.jit(method.update, donate_argnums=(0, 1))
    for _ in range(2):
        params, state, _ = step(params, state, BATCHES)
    np.testing.assert_allclose(params, [2.0, -2.0])
    np.testing.assert_allclose(state.frozen, [1.0, -1.0])


def test_frozen_parameters_are_sharded_as_the_parameters_are():
    mesh = jax.make_mesh((8,), ("fsdp",))
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    params = {"w": jax.device_put(jnp.arange(16.0), sharding)}
    copied = copy_params(params)
    assert copied["w"].sharding == sharding
    method = methods.with_frozen(
        lambda frozen: methods.gradient_ascent(
            lambda p, b: jnp.sum((p["w"] - frozen["w"]) ** 2), optax.sgd(0.1)
        ),
        forward_passes=1,
    )
    _, state, _ = jax.jit(method.update)(params, method.init(params), BATCHES)
    assert state.frozen["w"].sharding.is_equivalent_to(sharding, 1)


def test_a_weight_of_zero_leaves_the_retain_loss_out():
    def never(p, b):
        raise AssertionError("the retain loss was evaluated")

    for rule in (methods.weighted_difference, methods.blur):
        method = rule(
            FORGET, never, optax.sgd(0.1), forget_weight=2.0, retain_weight=0.0
        )
        params = jnp.zeros(2)
        params, _, metrics = method.update(params, method.init(params), BATCHES)
        np.testing.assert_allclose(params, [0.6, 0.0], rtol=1e-6)
        np.testing.assert_allclose(metrics["forget_loss"], 4.5)
        assert method.gradient_evaluations == 1


def test_a_frozen_forward_pass_costs_a_third_of_a_gradient():
    """FLOPs of the compiled program, of a loss made of matrix products."""
    keys = jax.random.split(jax.random.key(0), 2)
    params = jax.random.normal(keys[0], (4, 96, 96))
    x = jax.random.normal(keys[1], (256, 96))

    def model(p):
        return jax.lax.fori_loop(0, 4, lambda i, h: jnp.sin(h @ p[i]), x, unroll=4)

    def flops(function, *arguments):
        program = jax.jit(function).lower(*arguments).compile()
        return program.cost_analysis()["flops"]

    gradient = flops(jax.grad(lambda p: jnp.mean(model(p) ** 2)), params)
    both = flops(
        jax.grad(lambda p, frozen: jnp.mean((model(p) - model(frozen)) ** 2)),
        params,
        params + 1,
    )
    # The first layer takes no gradient of its input: 11/3 forwards, not 3 · 4/3.
    np.testing.assert_allclose(both / gradient - 1, FORWARD_COST, rtol=0.2)
