"""The bi-level functions at the edges: extreme norms, odd trees, wrong losses."""

import functools

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import ofmu_jax
from ofmu_jax import bilevel

CURVATURES = bilevel.CURVATURES


def quadratic(scale, p):
    return scale * jnp.sum(p**2)


def linear(scale, p):
    return scale * p[0]


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cosine_and_norm_over_the_whole_range(scale, dtype):
    # In float32 the squares of 1e-30 and 1e20 are 0 and infinite.
    g_f, g_r = jnp.array([3.0, 4.0], dtype) * scale, jnp.array([1.0, 0.0], dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(bilevel.cosine(g_f, g_r), 0.6, rtol=tolerance)
    np.testing.assert_allclose(bilevel.norm(g_f), 5 * scale, rtol=tolerance)
    # ∂c/∂g_f = (ĝ_r − c ĝ_f) / ‖g_f‖ = (0.64, −0.48) / (5 scale)
    slope = jax.grad(lambda g: bilevel.cosine(g, g_r))(g_f)
    expected = np.array([0.64, -0.48]) / 5
    slope = np.asarray(slope, np.float64) * scale
    np.testing.assert_allclose(slope, expected, rtol=2 * tolerance)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("curvature", ["vjp", "linearize"])
def test_gradients_with_extreme_losses_by_hand(scale, curvature):
    # As by hand in bilevel_test: c = 0.6, H_f u_f = 2 (0.064, −0.048), at any scale.
    theta = jnp.array([3.0, 4.0])
    forget, retain = (functools.partial(f, scale) for f in (quadratic, linear))
    gradient = ofmu_jax.inner_gradient(
        theta, forget, retain, beta=2.0, curvature=curvature
    )
    expected = scale * np.array([6.0, 8.0]) - 4 * np.array([0.064, -0.048])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    phi = functools.partial(
        ofmu_jax.inner_objective, forget_loss=forget, retain_loss=retain, beta=2.0
    )
    np.testing.assert_allclose(jax.grad(phi)(theta), expected, rtol=1e-5)


@pytest.mark.parametrize("curvature", [c for c in CURVATURES if c != "lookahead"])
def test_outer_gradient_with_tiny_gradients_by_hand(curvature):
    # L_f = s‖θ‖²: Φ = L_f − β x/‖θ‖, so only −β x/‖θ‖ is left, whose gradient
    # −β (y², −xy)/r³ has the square β² y²/r⁴ and F the gradient 2ρ·½∇ of that.
    theta, (x, y) = jnp.array([3.0, 4.0]), (3.0, 4.0)
    forget, retain = functools.partial(quadratic, 1e-20), lambda p: 1e-20 * p[0]
    gradient = ofmu_jax.outer_gradient(
        theta, forget, retain, beta=2.0, rho=0.5, curvature=curvature
    )
    expected = (
        0.5 * 4 * np.array([-4 * x * y**2 / 5**6, 2 * y / 5**4 - 4 * y**3 / 5**6])
    )
    np.testing.assert_allclose(
        gradient, expected, rtol=1e-5 if curvature != "finite_difference" else 0.3
    )


def test_nan_stays_nan():
    bad, good = jnp.array([jnp.nan, 1.0]), jnp.ones(2)
    assert np.isnan(bilevel.norm(bad))
    assert np.isnan(bilevel.cosine(bad, good))
    assert np.isnan(bilevel.norm(bilevel.unit(bad)[0]))
    assert np.isposinf(bilevel.norm(jnp.array([jnp.inf, 1.0])))


@pytest.mark.parametrize("stationary", ["forget", "retain", "both"])
def test_third_derivatives_at_zero_gradients_are_finite(stationary):
    flat, steep = lambda p: jnp.sum(p**2), lambda p: jnp.sum(p)
    forget = steep if stationary == "retain" else flat
    retain = steep if stationary == "forget" else flat
    objective = functools.partial(
        ofmu_jax.outer_objective,
        forget_loss=forget,
        retain_loss=retain,
        beta=0.5,
        rho=0.1,
    )
    gradient = jax.grad(objective)(jnp.zeros(3))
    # With the cosine 0 by convention, F = L_r + ρ‖∇L_f‖² and ∇F = ∇L_r at 0.
    np.testing.assert_allclose(gradient, jax.grad(retain)(jnp.zeros(3)))


def test_the_square_of_a_zero_gradient_has_its_curvature():
    # Φ = ½‖θ‖² and F = ‖∇Φ‖² = ‖θ‖²: ∇²F = 2, at 0 as well.
    objective = functools.partial(
        ofmu_jax.outer_objective,
        forget_loss=lambda p: 0.5 * jnp.sum(p**2),
        retain_loss=lambda p: 0.0 * jnp.sum(p),
        beta=0.0,
        rho=1.0,
    )
    hessian = jax.hessian(objective)(jnp.zeros(2))
    np.testing.assert_allclose(hessian, 2 * np.eye(2))


def test_vjp_is_the_pull_back_of_each_gradient(monkeypatch):
    calls, vjp = [], jax.vjp
    monkeypatch.setattr(jax, "vjp", lambda *a, **k: calls.append(a) or vjp(*a, **k))
    theta = jnp.array([3.0, 4.0])
    forget, retain = (functools.partial(f, 1.0) for f in (quadratic, linear))
    ofmu_jax.inner_gradient(theta, forget, retain, beta=1.0)
    assert len(calls) == 2  # of ∇L_f and ∇L_r
    ofmu_jax.inner_gradient(theta, forget, retain, beta=1.0, curvature="linearize")
    assert len(calls) == 2


# --- trees ------------------------------------------------------------------------


@flax.struct.dataclass
class Block:
    weight: jax.Array
    step: jax.Array  # an integer: a constant


def trees():
    """The same two arrays, and how a loss reads them, in trees of every kind."""
    w, v = jnp.array([0.3, -0.7]), jnp.array([1.1])
    yield "plain", {"w": w, "v": v}, lambda p: (p["w"], p["v"])
    odd = (Block(w, jnp.array(1)), [v, (), None], jnp.zeros((0, 3)), True, jnp.ones(3))
    yield (
        "odd",  # the last leaf has no influence
        odd,
        lambda p: (p[0].weight * p[0].step, p[1][0] + p[2].sum()),
    )
    ids = jnp.array([1, 0])
    yield "ids", {"w": w, "v": v, "ids": ids}, lambda p: (p["w"][p["ids"]][ids], p["v"])
    state = nnx.state(nnx.Dict(w=nnx.Param(w), v=nnx.Param(v)))
    yield "nnx", state, lambda p: (p["w"].get_value(), p["v"].get_value())


TREES = {name: (params, read) for name, params, read in trees()}


def losses_of(read):
    def forget(p, step=0):
        w, v = read(p)
        return jnp.sum(jnp.sin(w) * v) + jnp.sum(w**2)

    def retain(p, step=0):
        w, v = read(p)
        return jnp.sum(jnp.cos(w + v)) + v[0] ** 2

    return forget, retain


@functools.cache
def results(name):
    params, read = TREES[name]

    @jax.jit
    def everything(p):
        losses = losses_of(read)
        ascent = ofmu_jax.inner_ascent(
            p, *losses, inner_optimizer=optax.adam(0.1), inner_steps=2, beta=0.4
        )
        return (
            ofmu_jax.inner_objective(p, *losses, beta=0.4),
            ofmu_jax.outer_gradient(p, *losses, beta=0.4, rho=0.2),
            ascent.params,
        )

    return everything(params)


@pytest.mark.parametrize("name", [name for name in TREES if name != "plain"])
def test_any_tree_gives_what_the_plain_one_gives(name):
    arrays = functools.partial(jax.tree.map, jnp.asarray)
    (phi, *got), (expected_phi, *expected) = results(name), results("plain")
    np.testing.assert_allclose(phi, expected_phi, rtol=1e-5)
    for tree, reference in zip(got, expected, strict=True):
        chex.assert_trees_all_equal_shapes_and_dtypes(
            arrays(tree), arrays(TREES[name][0])
        )
        if name == "odd":
            tree = {"w": tree[0].weight, "v": tree[1][0]}
        pairs = ((tree[k], reference[k]) for k in ("w", "v"))
        for leaf, wanted in pairs:
            leaf = leaf.get_value() if name == "nnx" else leaf
            np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=1e-6)


def test_constants_and_idle_leaves_do_not_move():
    _, gradient, moved = results("odd")
    start = TREES["odd"][0]
    assert int(gradient[0].step) == 0 and not gradient[3]
    np.testing.assert_array_equal(gradient[4], 0)
    assert int(moved[0].step) == 1 and moved[3]
    np.testing.assert_array_equal(moved[4], start[4])
    np.testing.assert_array_equal(results("ids")[2]["ids"], [1, 0])


def test_a_loss_that_ignores_its_parameters():
    theta, constant = jnp.ones(2), lambda p: jnp.ones(())
    for curvature in CURVATURES:
        gradient = ofmu_jax.outer_gradient(
            theta, constant, lambda p: p[0], beta=1.0, rho=1.0, curvature=curvature
        )
        np.testing.assert_allclose(gradient, [1, 0])


# --- wrong losses -----------------------------------------------------------------

GOOD = lambda p, step=0: jnp.sum(p)
WRONG = {
    r"got shape \(3,\); reduce it": lambda p, step=0: p,
    "got a tuple; return the loss alone": lambda p, step=0: (jnp.sum(p), p),
    "got dtype int32": lambda p, step=0: jnp.sum(p > 0),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("which", ["forget_loss", "retain_loss"])
def test_losses_that_are_no_scalars_are_named(message, which):
    theta = jnp.ones(3)
    losses = {"forget_loss": GOOD, "retain_loss": GOOD, which: WRONG[message]}
    tx = ofmu_jax.ofmu(optax.sgd(1.0), optax.sgd(1.0), inner_steps=1)
    sgd = {"inner_optimizer": optax.sgd(1.0), "inner_steps": 1}
    for call in (
        functools.partial(ofmu_jax.inner_objective, theta, **losses, beta=1.0),
        functools.partial(ofmu_jax.inner_gradient, theta, **losses, beta=1.0),
        functools.partial(ofmu_jax.outer_objective, theta, **losses, beta=1.0, rho=1.0),
        functools.partial(ofmu_jax.outer_gradient, theta, **losses, beta=0.0, rho=1.0),
        functools.partial(ofmu_jax.inner_ascent, theta, **losses, beta=1.0, **sgd),
        functools.partial(tx.update, None, tx.init(theta), theta, **losses),
    ):
        with pytest.raises(ValueError, match=f"{which} must return a .*{message}"):
            call()


# --- the inner loop ---------------------------------------------------------------


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_the_ascent_rests_from_where_the_loss_is_not_finite(bad):
    # θ rises by 1 a step; at θ = 2 the loss is NaN, or only its gradient is.
    def forget(p, step):
        if bad == "loss":
            return jnp.where(p < 1.5, p, jnp.nan)
        return p + 0 * jnp.sqrt(2 - p)

    result = ofmu_jax.inner_ascent(
        jnp.zeros(()),
        forget,
        lambda p, step: p,
        inner_optimizer=optax.sgd(1.0),
        inner_steps=4,
        beta=0.0,
    )
    assert float(result.params) == 2.0
    np.testing.assert_array_equal(result.trace["moved"], [True, True, False, False])


def test_float64_stays_float64_and_steps_are_int32():
    with jax.enable_x64(True):
        theta, seen = jnp.ones(2, jnp.float64), []

        def forget(p, step):
            seen.append((p.dtype, step.dtype, isinstance(step, jax.core.Tracer)))
            return jnp.sum(p**2)

        ascent = ofmu_jax.inner_ascent(
            theta,
            forget,
            lambda p, step: jnp.sum(p**3),
            inner_optimizer=optax.sgd(0.1),
            inner_steps=2,
            beta=0.3,
            keep_last=True,
        )
        assert set(seen) == {(np.dtype("float64"), np.dtype("int32"), True)}
        floats = [x for x in jax.tree.leaves(ascent) if x.dtype != bool]
        assert {x.dtype for x in floats} == {np.dtype("float64")}


@pytest.mark.parametrize("curvature", ["finite_difference", "vjp"])
def test_differences_alone_ask_for_full_products(curvature):
    """What TF32 rounds off is more than a small step changes."""
    matrix = jnp.ones((3, 3))
    forget = lambda x: jnp.sum((matrix @ x) ** 2)
    retain = lambda x: jnp.sum(jnp.tanh(matrix @ x))
    inner = functools.partial(bilevel.inner_gradient, beta=1.0, curvature=curvature)
    with jax.default_matmul_precision("default"):
        program = jax.make_jaxpr(lambda x: inner(x, forget, retain))(jnp.ones(3))
    in_full = "precision=(Precision.HIGHEST" in str(program).replace("\n", " ")
    assert in_full == (curvature == "finite_difference"), program
