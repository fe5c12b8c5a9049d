"""Configurations of the `ofmu` transform, and a problem to run them on."""

import functools

import jax
import jax.numpy as jnp
import optax

import ofmu_jax
from ofmu_jax import AdaptiveRho

# Adam's first step is the sign of the gradient, which turns rounding at entries near 0
# into whole steps: ε is about as large as these gradients are.
SMOOTH = {"eps": 1e-2}
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
    "adam_inside": {"inner_optimizer": optax.adam(1e-2, **SMOOTH)},
    "look_ahead": {"curvature": "lookahead"},
    "carried": {"retain_direction": "carried"},
    "first_order": {
        "curvature": "lookahead",
        "retain_direction": "carried",
        "penalty": "value_gap",
        "penalty_gradient": "carried",
        "maximum": 9.0,
        "rho": AdaptiveRho(0.1, 0.1),
    },
}


def make(name="default", **changes):
    options = {
        "outer_optimizer": optax.adamw(1e-2, **SMOOTH),
        "inner_optimizer": optax.sgd(1e-2),
        "inner_steps": 2,
        "beta": 0.3,
        "rho": optax.exponential_decay(1e-2, 1, 1.1),
    }
    return ofmu_jax.ofmu(**(options | CONFIGURATIONS[name] | changes))


def batches():
    """Inputs and labels of forget and retain rows, stacked over the steps (T + 3)."""
    keys = jax.random.split(jax.random.key(0), 6)
    made = lambda key, width: jax.random.normal(key, (5, 8, width))
    return {
        "forget_loss": (made(keys[2], 4), made(keys[3], 2)),
        "retain_loss": (made(keys[4], 4), made(keys[5], 2)),
    }


def losses_on(batches):
    """Step-indexed losses of a small network."""

    def loss(x, y, theta, step):
        x, y = (z[step].astype(theta["w"].dtype) for z in (x, y))
        return jnp.mean((jnp.tanh(x @ theta["w"]) @ theta["v"] - y) ** 2)

    return {name: functools.partial(loss, *xy) for name, xy in batches.items()}


def problem(dtype=jnp.float32):
    """Parameters and losses."""
    keys = jax.random.split(jax.random.key(0), 6)
    params = {
        "w": jax.random.normal(keys[0], (4, 6), dtype) / 2,
        "v": jax.random.normal(keys[1], (6, 2), dtype),
    }
    return params, losses_on(batches())
