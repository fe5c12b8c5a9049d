"""Updates and their cost: answers known for quadratics in one variable."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from loop_toys import stream

from ofmu_jax import methods
from ofmu_jax.bilevel import CURVATURES, evaluate_phi
from ofmu_jax.methods.ofmu import gradient_evaluations

FORGET = lambda p, batch: jnp.sum((p - batch["x"].mean()) ** 2)
RETAIN = lambda p, batch: jnp.sum((p - 1.0) ** 2) + 0.0 * batch["x"].sum()


def test_gradient_ascent_and_difference_by_hand():
    batches = next(stream(1))
    ascent = methods.gradient_ascent(lambda p, b: -FORGET(p, b), optax.sgd(0.1))
    params, _, metrics = ascent.update(jnp.array(3.0), ascent.init(0.0), batches)
    np.testing.assert_allclose(params, 3 + 0.1 * 6)
    np.testing.assert_allclose(metrics["forget_loss"], -9)
    difference = methods.weighted_difference(
        lambda p, b: -FORGET(p, b),
        RETAIN,
        optax.sgd(0.1),
        forget_weight=0.5,
        retain_weight=2.0,
    )
    params, _, metrics = difference.update(
        jnp.array(3.0), difference.init(0.0), batches
    )
    np.testing.assert_allclose(params, 3 - 0.1 * (0.5 * -6 + 2 * 4), rtol=1e-6)
    # ∇L_f = 6 and ∇L_r = 4 point the same way.
    np.testing.assert_allclose(metrics["cosine"], 1, rtol=1e-6)


def test_ofmu_gives_each_step_its_own_minibatch():
    method = methods.ofmu_method(
        FORGET,
        RETAIN,
        outer_optimizer=optax.sgd(0.0),
        inner_optimizer=optax.sgd(0.5),
        inner_steps=2,
        beta=0.0,
        rho=0.0,
    )
    assert method.batches_per_update == 3
    x = np.array([[1.0], [10.0], [100.0]], np.float32)
    batches = {"forget": {"x": x}, "retain": {"x": x}}
    start = jnp.array(2.0)
    params, _, metrics = method.update(start, method.init(start), batches)
    # θ ← θ + (θ − x): 2 → 3 → −4.
    np.testing.assert_allclose(params, -4)
    np.testing.assert_allclose(metrics["retain_loss"], 25)


AHEAD = {"curvature": "lookahead", "retain_direction": "carried"}
GAP = {"penalty": "value_gap", "penalty_gradient": "carried", "maximum": 0.0}


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        ({"inner_steps": 5}, 5 * 6 + 18),
        (
            {
                "inner_steps": 5,
                "curvature": "finite_difference",
                "penalty_gradient": "finite_difference",
            },
            5 * 4 + 8,
        ),
        (
            {
                "inner_steps": 5,
                "retain_direction": "frozen",
                "curvature": "linearize",
                "penalty_gradient": "secant",
            },
            1 + 5 * 3 + 3 + 1,
        ),
        ({"inner_steps": 2, "beta": 0.0, "rho": 0.0, "outer_steps": 3}, 2 + 3),
        ({"inner_steps": 2, "rho": 0.0}, 2 * 6 + 1),
        ({"inner_steps": 2, "curvature": "jvp"}, 2 * 8 + 8 + 3 * 8),
        ({"inner_steps": 2, "curvature": "lookahead", "rho": 0.0}, 2 * 4 + 1),
        ({"inner_steps": 2, "rho": 0.0, **AHEAD, "retain_direction": "frozen"}, 5),
        ({"inner_steps": 2, "rho": 0.0, **AHEAD}, 2 + 1),
        ({"inner_steps": 1, "outer_steps": 3, **AHEAD, **GAP}, 1 + 3),
        ({**AHEAD, **GAP, "penalty_gradient": "exact"}, 5 + 2),
        ({"inner_steps": 2, "retain_direction": "carried", "rho": 0.0}, 2 * 3 + 1),
    ],
)
def test_cost_in_gradient_evaluations(options, cost):
    method = methods.ofmu_method(
        FORGET,
        RETAIN,
        outer_optimizer=optax.sgd(0.1),
        inner_optimizer=optax.sgd(0.1),
        **options,
    )
    assert method.gradient_evaluations == cost


@pytest.mark.parametrize("curvature", CURVATURES)
def test_cost_agrees_with_the_compiled_program(curvature):
    """FLOPs of one ∇Φ over those of one gradient, for a matrix-heavy loss."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.random.normal(keys[0], (3, 96, 96))
    x = jax.random.normal(keys[1], (2, 256, 96))

    def loss(index, p):
        # A loop, whose passes XLA does not merge; its body is counted once.
        step = lambda h, layer: (jnp.sin(h @ layer), None)
        return jnp.mean(jax.lax.scan(step, x[index], p)[0] ** 2)

    forget, retain = functools.partial(loss, 0), functools.partial(loss, 1)

    def flops(function):
        return jax.jit(function).lower(params).compile().cost_analysis()["flops"]

    phi = lambda p: (
        evaluate_phi(p, forget, retain, beta=0.5, curvature=curvature).gradient
    )
    ratio = flops(phi) / flops(jax.grad(forget))
    expected = gradient_evaluations(inner_steps=1, rho=0.0, curvature=curvature) - 1
    assert 0.75 * expected < ratio < 1.2 * expected
