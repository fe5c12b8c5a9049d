"""Exact and approximate gradients on a two-layer Llama, in float64 throughout.

The decoder is written out here in a few lines (RMSNorm, rotary positions, grouped
queries, SwiGLU, tied head): the answers should not depend on the project's own model,
which takes norms and softmax in float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import ofmu_jax

VOCABULARY, WIDTH, HEADS, GROUPS, HIDDEN, LAYERS = 11, 8, 4, 2, 12, 2
SIZE = WIDTH // HEADS


def random_params():
    normal = np.random.default_rng(0).normal

    def matrix(*shape):
        return jnp.asarray(normal(size=(LAYERS, *shape)) * shape[0] ** -0.5)

    layers = {
        "query": matrix(WIDTH, HEADS * SIZE),
        "key": matrix(WIDTH, GROUPS * SIZE),
        "value": matrix(WIDTH, GROUPS * SIZE),
        "output": matrix(HEADS * SIZE, WIDTH),
        "gate": matrix(WIDTH, HIDDEN),
        "up": matrix(WIDTH, HIDDEN),
        "down": matrix(HIDDEN, WIDTH),
        "norms": jnp.ones((LAYERS, 2, WIDTH)),
    }
    embedding = jnp.asarray(normal(size=(VOCABULARY, WIDTH)))
    return {"embedding": embedding, "layers": layers, "norm": jnp.ones(WIDTH)}


def rms_norm(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5) * scale


def rotate(x_BxLxHxK):
    length, half = x_BxLxHxK.shape[1], SIZE // 2
    frequencies = 100.0 ** (-jnp.arange(half) / half)
    angles = jnp.arange(length)[:, None, None] * frequencies
    a, b = jnp.split(x_BxLxHxK, 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def layer(x_BxLxD, p):
    batch, length, _ = x_BxLxD.shape
    normed = rms_norm(x_BxLxD, p["norms"][0])
    split = lambda name: (normed @ p[name]).reshape(batch, length, -1, SIZE)
    repeat = functools.partial(jnp.repeat, repeats=HEADS // GROUPS, axis=2)
    query, key = rotate(split("query")), repeat(rotate(split("key")))
    scores = jnp.einsum("blhk,bmhk->bhlm", query, key) * SIZE**-0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e30)
    mixed = jnp.einsum(
        "bhlm,bmhk->blhk", jax.nn.softmax(scores), repeat(split("value"))
    )
    x_BxLxD += mixed.reshape(batch, length, -1) @ p["output"]
    normed = rms_norm(x_BxLxD, p["norms"][1])
    gated = jax.nn.silu(normed @ p["gate"]) * (normed @ p["up"])
    return x_BxLxD + gated @ p["down"]


def cross_entropy(tokens_BxL, params):
    x = params["embedding"][tokens_BxL]
    for i in range(LAYERS):
        x = layer(x, jax.tree.map(lambda leaf, i=i: leaf[i], params["layers"]))
    logits = rms_norm(x, params["norm"]) @ params["embedding"].T
    logp = jax.nn.log_softmax(logits[:, :-1])
    return -jnp.mean(jnp.take_along_axis(logp, tokens_BxL[:, 1:, None], axis=-1))


def problem():
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (2, 3, 6))
    losses = [functools.partial(cross_entropy, jnp.asarray(t)) for t in tokens]
    return random_params(), *losses


def plain_phi(forget, retain, beta, theta):
    g_f, g_r = (ravel_pytree(jax.grad(loss)(theta))[0] for loss in (forget, retain))
    c = g_f @ g_r / jnp.linalg.norm(g_f) / jnp.linalg.norm(g_r)
    return forget(theta) - beta * c


def plain_outer(forget, retain, beta, rho, theta):
    gradient = jax.grad(functools.partial(plain_phi, forget, retain, beta))(theta)
    return retain(theta) + rho * jnp.sum(ravel_pytree(gradient)[0] ** 2)


# Third derivatives compile for long; how well the program is optimised is no matter.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def references():
    """∇Φ, F and ∇F by automatic differentiation of the plain definitions."""
    theta, forget, retain = problem()
    inner = jax.grad(functools.partial(plain_phi, forget, retain, 0.7))
    outer = functools.partial(plain_outer, forget, retain, 0.7, 0.3)
    return jit(inner)(theta), *jit(jax.value_and_grad(outer))(theta)


def relative_error(tree, reference):
    difference = optax.tree.norm(optax.tree.sub(tree, reference))
    return float(difference / optax.tree.norm(reference))


@pytest.mark.parametrize(
    "curvature",
    [
        pytest.param("vjp", marks=pytest.mark.slow),
        pytest.param("linearize", marks=pytest.mark.long),
        pytest.param("jvp", marks=pytest.mark.long),
        pytest.param("finite_difference", marks=pytest.mark.slow),
    ],
)
def test_gradients_on_a_two_layer_llama(curvature):
    with jax.enable_x64(True):
        theta, forget, retain = problem()
        inner, _, outer = references()
        options = {"beta": 0.7, "curvature": curvature}
        tolerance = 1e-3 if curvature == "finite_difference" else 1e-8

        @jit
        def ours(p):
            return (
                ofmu_jax.inner_gradient(p, forget, retain, **options),
                ofmu_jax.outer_gradient(p, forget, retain, rho=0.3, **options),
            )

        got_inner, got_outer = ours(theta)
        assert relative_error(got_inner, inner) < tolerance
        assert relative_error(got_outer, outer) < tolerance


@pytest.mark.slow
def test_the_outer_objective_is_differentiable_on_a_two_layer_llama():
    with jax.enable_x64(True):
        theta, forget, retain = problem()
        objective = functools.partial(
            ofmu_jax.outer_objective,
            forget_loss=forget,
            retain_loss=retain,
            beta=0.7,
            rho=0.3,
        )
        value, gradient = jit(jax.value_and_grad(objective))(theta)
        _, expected, expected_gradient = references()
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert relative_error(gradient, expected_gradient) < 1e-8
