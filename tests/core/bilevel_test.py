"""The bi-level functions against `jax.grad` of their definitions and closed forms."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from jax.flatten_util import ravel_pytree

import ofmu_jax
from ofmu_jax import bilevel

CURVATURES = bilevel.CURVATURES
SIMILARITIES = bilevel.SIMILARITIES


def mlp_problem(dtype=jnp.float64):
    """Two regression losses of a two-layer network on different data."""
    normal = np.random.default_rng(0).normal
    params = {
        "hidden": jnp.asarray(normal(size=(5, 8)) / 2, dtype),
        "out": jnp.asarray(normal(size=(8, 3)), dtype),
    }

    def loss(data, theta):
        x, y = data
        return jnp.mean((jnp.tanh(x @ theta["hidden"]) @ theta["out"] - y) ** 2)

    forget, retain = (
        functools.partial(
            loss,
            (
                jnp.asarray(normal(size=(16, 5)), dtype),
                jnp.asarray(normal(size=(16, 3)), dtype),
            ),
        )
        for _ in range(2)
    )
    return params, forget, retain


def relative_error(tree, reference):
    difference = optax.tree.norm(optax.tree.sub(tree, reference))
    return float(difference / optax.tree.norm(reference))


def plain_phi(theta, forget, retain, beta, similarity):
    """Φ as the paper writes it, on flat vectors."""
    g_f, g_r = (ravel_pytree(jax.grad(loss)(theta))[0] for loss in (forget, retain))
    c = g_f @ g_r / (jnp.linalg.norm(g_f) * jnp.linalg.norm(g_r))
    return forget(theta) - beta * (c if similarity == "cosine" else c**2)


def plain_outer(theta, forget, retain, beta, rho, similarity):
    gradient = jax.grad(plain_phi)(theta, forget, retain, beta, similarity)
    return retain(theta) + rho * jnp.sum(ravel_pytree(gradient)[0] ** 2)


@functools.cache
def references(similarity):
    theta, forget, retain = mlp_problem()
    phi = lambda p: plain_phi(p, forget, retain, 0.7, similarity)
    outer = lambda p: plain_outer(p, forget, retain, 0.7, 0.3, similarity)
    return [jax.jit(jax.value_and_grad(f))(theta) for f in (phi, outer)]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_objectives_are_the_definitions_and_differentiable(similarity):
    with jax.enable_x64(True):
        theta, forget, retain = mlp_problem()
        common = {"beta": 0.7, "similarity": similarity}
        for expected, objective in zip(
            references(similarity),
            (
                lambda p: ofmu_jax.inner_objective(p, forget, retain, **common),
                lambda p: ofmu_jax.outer_objective(
                    p, forget, retain, rho=0.3, **common
                ),
            ),
            strict=True,
        ):
            value, gradient = jax.jit(jax.value_and_grad(objective))(theta)
            np.testing.assert_allclose(value, expected[0], rtol=1e-12)
            assert relative_error(gradient, expected[1]) < 1e-8


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("curvature", [c for c in CURVATURES if c != "lookahead"])
def test_gradients_are_those_of_the_definitions(similarity, curvature):
    with jax.enable_x64(True):
        theta, forget, retain = mlp_problem()
        common = {"beta": 0.7, "similarity": similarity, "curvature": curvature}
        tolerance = 1e-3 if curvature == "finite_difference" else 1e-8
        (_, inner), (_, outer) = references(similarity)

        @jax.jit
        def ours(p):
            return (
                ofmu_jax.inner_gradient(p, forget, retain, **common),
                ofmu_jax.outer_gradient(p, forget, retain, rho=0.3, **common),
            )

        got_inner, got_outer = ours(theta)
        assert relative_error(got_inner, inner) < tolerance
        assert relative_error(got_outer, outer) < tolerance


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_objectives_by_hand(similarity):
    # L_f = x² + y², L_r = x at (3, 4): g_f = (6, 8), g_r = (1, 0), c = 0.6.
    theta = jnp.array([3.0, 4.0])
    forget, retain = lambda p: jnp.sum(p**2), lambda p: p[0]
    phi = ofmu_jax.inner_objective(
        theta, forget, retain, beta=2.0, similarity=similarity
    )
    expected = 25 - 2 * (0.6 if similarity == "cosine" else 0.36)
    np.testing.assert_allclose(phi, expected, rtol=1e-6)
    # u_f = (ĝ_r − c ĝ_f)/‖g_f‖ = (0.64, −0.48)/10, H_f = 2, H_r = 0.
    slope = 1.0 if similarity == "cosine" else 1.2
    gradient = np.array([6.0, 8.0]) - 2 * slope * 2 * np.array([0.064, -0.048])
    got = ofmu_jax.inner_gradient(
        theta, forget, retain, beta=2.0, similarity=similarity
    )
    np.testing.assert_allclose(got, gradient, rtol=1e-6)
    objective = ofmu_jax.outer_objective(
        theta, forget, retain, beta=2.0, rho=0.5, similarity=similarity
    )
    np.testing.assert_allclose(objective, 3 + 0.5 * np.sum(gradient**2), rtol=1e-6)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("stationary", ["forget", "retain", "both"])
def test_zero_gradients_give_no_nan(curvature, stationary):
    theta = jnp.zeros(3)
    flat, steep = lambda p: jnp.sum(p**2), lambda p: jnp.sum(p)
    forget = steep if stationary == "retain" else flat
    retain = steep if stationary == "forget" else flat
    options = {"beta": 0.5, "curvature": curvature}
    inner = ofmu_jax.inner_gradient(theta, forget, retain, **options)
    outer = ofmu_jax.outer_gradient(theta, forget, retain, rho=0.1, **options)
    chex.assert_tree_all_finite((inner, outer))
    chex.assert_tree_all_finite(
        jax.grad(lambda p: ofmu_jax.inner_objective(p, forget, retain, beta=0.5))(theta)
    )
    # Cosine 0 by convention: only the forget gradient is left of ∇Φ.
    np.testing.assert_allclose(inner, jax.grad(forget)(theta))


@functools.cache
def inner_gradient_in_float32():
    theta, forget, retain = mlp_problem(jnp.float32)
    return jax.jit(lambda p: ofmu_jax.inner_gradient(p, forget, retain, beta=0.7))(
        theta
    )


@pytest.mark.parametrize("curvature", CURVATURES)
def test_bfloat16_parameters(curvature):
    theta, forget, retain = mlp_problem(jnp.float32)
    options = {"beta": 0.7, "curvature": curvature}

    @jax.jit
    def gradients(p):
        inner = ofmu_jax.inner_gradient(p, forget, retain, **options)
        return inner, ofmu_jax.outer_gradient(p, forget, retain, rho=0.1, **options)

    low = optax.tree.cast(theta, jnp.bfloat16)
    got, outer = gradients(low)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, low)
    exact = inner_gradient_in_float32()
    assert relative_error(optax.tree.cast(got, jnp.float32), exact) < 0.05
    chex.assert_trees_all_equal_shapes_and_dtypes(outer, low)
    chex.assert_tree_all_finite(outer)


def test_norm_and_cosine_of_bfloat16_are_float32():
    # Bfloat16 holds 0.01 as 0.010009765625 and knows no number between 1 and 1.0078.
    small = jnp.full(10_000, 0.01, jnp.bfloat16)
    np.testing.assert_allclose(bilevel.norm(small), 1.0009765625, rtol=1e-5)
    other = small.at[:100].set(0)
    np.testing.assert_allclose(bilevel.cosine(small, other), 0.99**0.5, rtol=1e-5)
    assert bilevel.norm(small).dtype == bilevel.cosine(small, other).dtype == "float32"


def test_frozen_direction_differentiates_through_the_forget_loss_only():
    with jax.enable_x64(True):
        theta, forget, retain = mlp_problem()
        direction, _ = bilevel.unit(jax.grad(retain)(theta))

        def phi(p):
            return forget(p) - 0.7 * bilevel.cosine(jax.grad(forget)(p), direction)

        got = bilevel.evaluate_phi(
            theta, forget, None, beta=0.7, retain_direction=direction
        )
        assert relative_error(got.gradient, jax.grad(phi)(theta)) < 1e-10
        np.testing.assert_allclose(got.phi, phi(theta), rtol=1e-12)


def test_secant_is_first_order_in_the_inner_step():
    with jax.enable_x64(True):
        theta, forget, retain = mlp_problem()
        gradient = functools.partial(
            ofmu_jax.inner_gradient, forget_loss=forget, retain_loss=retain, beta=0.7
        )

        @jax.jit
        def products(eta):
            ascent = ofmu_jax.inner_ascent(
                theta,
                lambda p, i: forget(p),
                lambda p, i: retain(p),
                inner_optimizer=optax.sgd(eta),
                inner_steps=1,
                beta=0.7,
                keep_gradient=True,
                keep_step=True,
            )
            product = bilevel.secant_product(
                gradient(ascent.params), ascent.last_gradient, ascent.last_step
            )
            g, push = jax.linearize(gradient, theta)
            return product, push(g)

        errors = [relative_error(*products(eta)) for eta in (4e-4, 2e-4, 1e-4)]
        assert errors[-1] < 0.01
        for coarse, fine in itertools.pairwise(errors):
            np.testing.assert_allclose(coarse / fine, 2.0, rtol=0.1)


def test_secant_reads_the_step_length_off_a_normalised_step():
    gradient, step = jnp.array([3.0, 4.0]), 0.1 * jnp.array([0.6, 0.8])
    hessian = jnp.array([[2.0, 1.0], [1.0, -1.0]])
    product = bilevel.secant_product(gradient + hessian @ step, gradient, step)
    np.testing.assert_allclose(product, hessian @ gradient, rtol=1e-5)
    still = bilevel.secant_product(gradient, gradient, jnp.zeros(2))
    np.testing.assert_array_equal(still, jnp.zeros(2))


class InnerAscentTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(steps=(0, 1, 4), dtype=("float32", "bfloat16"))
    def test_closed_form(self, steps, dtype):
        # Φ = −½‖θ‖² ascends by θ ← (1 − η) θ.
        @self.variant
        def ascend(theta):
            return ofmu_jax.inner_ascent(
                theta,
                lambda p, i: -0.5 * jnp.sum(p**2),
                lambda p, i: jnp.sum(p),
                inner_optimizer=optax.sgd(0.5),
                inner_steps=steps,
                beta=0.0,
            )

        result = ascend(jnp.ones(3, dtype))
        chex.assert_trees_all_close(result.params, jnp.full(3, 0.5**steps, dtype))
        chex.assert_shape(list(result.trace.values()), (steps,))

    def test_steps_index_stacked_minibatches(self):
        batches = jnp.array([1.0, 10.0, 100.0])
        result = ofmu_jax.inner_ascent(
            jnp.zeros(()),
            lambda p, i: p * batches[i],
            lambda p, i: p,
            inner_optimizer=optax.sgd(1.0),
            inner_steps=3,
            beta=0.0,
        )
        self.assertEqual(float(result.params), 111.0)

    def test_target_ends_the_ascent(self):
        # L_f = θ rises by 1 a step from 0 and rests at 3.
        result = ofmu_jax.inner_ascent(
            jnp.zeros(()),
            lambda p, i: p,
            lambda p, i: p,
            inner_optimizer=optax.sgd(1.0, momentum=0.0),
            inner_steps=10,
            beta=0.0,
            forget_target=3.0,
        )
        self.assertEqual(float(result.params), 3.0)


@pytest.mark.parametrize(
    ("option", "value"), [("similarity", "dot"), ("curvature", "hessian")]
)
def test_unknown_options_name_the_known_ones(option, value):
    theta, forget, retain = mlp_problem(jnp.float32)
    with pytest.raises(ValueError, match=f"{option}='{value}'.*choose one of"):
        ofmu_jax.inner_gradient(theta, forget, retain, beta=1.0, **{option: value})
