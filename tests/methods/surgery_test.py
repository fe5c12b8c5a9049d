"""Directions from two gradients, and SAUL's two steps, on paper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ofmu_jax import methods
from ofmu_jax.methods.rules.constrained import constrained
from ofmu_jax.methods.rules.hamu import hamu, hamu_direction
from ofmu_jax.methods.rules.sharpness import sharp_value_and_grad
from ofmu_jax.methods.rules.surgery import (
    gru_direction,
    ngdiff_direction,
    pcgrad_direction,
)
from ofmu_jax.methods.rules.weighted import weighted_difference

BATCHES = {"forget": jnp.zeros((1, 1)), "retain": jnp.zeros((1, 1))}
# ⟨f, r⟩ = −4, ‖f‖² = 8, ‖r‖² = 4: they conflict. f and (1, 0) do not.
F, R = jnp.array([2.0, 2.0]), jnp.array([-2.0, 0.0])


@pytest.mark.parametrize(
    ("direction", "weights", "expected"),
    [
        # f + r = (2, 2) − (2, 0) is across r; r + f / 2 = (−1, 1) is across f.
        (pcgrad_direction, {}, [-1, 3]),
        # γ f = (4, 4): across r it is (0, 4); what is left of r is the same.
        (pcgrad_direction, {"forget_weight": 2.0}, [-1, 5]),
        (gru_direction, {}, [0, 2]),
        (gru_direction, {"forget_weight": 3.0}, [0, 6]),
        (ngdiff_direction, {}, [0.5**0.5 - 1, 0.5**0.5]),
        (ngdiff_direction, {"retain_weight": 2.0}, [0.5**0.5 - 2, 0.5**0.5]),
    ],
)
def test_directions_where_gradients_conflict(direction, weights, expected):
    np.testing.assert_allclose(direction(F, R, **weights), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (pcgrad_direction, [4, 2]),  # f + r
        (gru_direction, [2, 2]),  # f
        (ngdiff_direction, [0.5**0.5 + 1, 0.5**0.5]),
    ],
)
def test_directions_where_they_agree(direction, expected):
    np.testing.assert_allclose(direction(F, -R), expected, atol=1e-6)


@pytest.mark.parametrize(
    "direction",
    [pcgrad_direction, gru_direction, ngdiff_direction, lambda f, r: _hamu(f, r)],
)
def test_a_gradient_of_zero_is_left_out_and_dtypes_stay(direction):
    f = {"w": jnp.array([3.0, 4.0], jnp.bfloat16), "b": jnp.zeros(1)}
    zero = jax.tree.map(jnp.zeros_like, f)
    for pair in ((f, zero), (zero, f), (zero, zero)):
        found = direction(*pair)
        assert jax.tree.map(lambda x: x.dtype, found) == {
            "w": jnp.bfloat16,
            "b": jnp.float32,
        }
        assert all(np.isfinite(np.asarray(x, float)).all() for x in found.values())


def test_projections_are_of_the_whole_tree():
    """⟨f, r⟩ = 1 − 2 < 0 over both leaves, though the first one agrees."""
    f = {"a": jnp.array([1.0]), "b": jnp.array([2.0])}
    r = {"a": jnp.array([1.0]), "b": jnp.array([-1.0])}
    found = gru_direction(f, r)
    np.testing.assert_allclose([found["a"][0], found["b"][0]], [1.5, 1.5])


# --- HAMU -----------------------------------------------------------------------------


def _hamu(f, r, **options):
    return hamu_direction(f, r, **options)[0]


@pytest.mark.parametrize(
    ("f", "r", "c", "expected"),
    [
        # Direct: cos = .6 ≥ c, the retain step forgets enough.
        ([1.0, 0.0], [3.0, 4.0], 0.5, [3, 4]),
        # Rectified: of length 5, .8 · 5 along f, 3 across.
        ([2.0, 0.0], [3.0, 4.0], 0.8, [4, 3]),
        (
            [2.0, 0.0],
            [-3.0, 4.0],
            0.8,
            [4, 3],
        ),  # r along f is moot
        # Colinear: nothing across; c ‖r‖ along f.
        ([1.0, 0.0], [-2.0, 0.0], 0.5, [1, 0]),
        # Without a constraint and against f: across it, at the length of r.
        ([1.0, 0.0], [-3.0, 4.0], 0.0, [0, 5]),
    ],
)
def test_hamu_branches_when_the_constraint_is_relative(f, r, c, expected):
    found = _hamu(jnp.array(f), jnp.array(r), constraint=c)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    scaled = _hamu(1e-3 * jnp.array(f), jnp.array(r), constraint=c)
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


def test_hamu_divides_an_absolute_constraint_by_products_of_norms():
    """n = (10, 30), so that c = 8 is (2, 6): 2 / ‖f‖ = 1 along f in "a"; 2 in "b"."""
    f = {"a": jnp.array([2.0, 0.0]), "b": jnp.array([0.0, 3.0])}
    r = {"a": jnp.array([-3.0, 4.0]), "b": jnp.array([10.0, 0.0])}
    found, stop = hamu_direction(f, r, constraint=8.0, relative=False)
    np.testing.assert_allclose(found["a"], [1, 24**0.5], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [96**0.5, 2], rtol=1e-6)
    # Σ √(n² − ⟨⟩²) = 10 · .8 + 30 = 38.
    assert not stop
    assert not hamu_direction(f, r, constraint=37.9, relative=False)[1]
    assert hamu_direction(f, r, constraint=38.1, relative=False)[1]
    # Beyond Σ n = 40 no step within the radius does: b / ‖f‖ along f, 20 / 2, 60 / 3.
    found, _ = hamu_direction(f, r, constraint=80.0, relative=False)
    np.testing.assert_allclose(found["a"], [10, 0], atol=1e-5)
    np.testing.assert_allclose(found["b"], [0, 20], atol=1e-5)


def test_hamu_is_the_best_step_within_its_bounds():
    """Against all of a grid of directions at the radius, in three dimensions."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        f, r = rng.normal(size=(2, 3))
        found = np.asarray(_hamu(jnp.asarray(f), jnp.asarray(r), constraint=0.6))
        length = np.linalg.norm(r)
        least = 0.6 * length * np.linalg.norm(f)
        assert np.linalg.norm(found) == pytest.approx(length, rel=1e-4)
        assert found @ f >= least * (1 - 1e-4)
        steps = rng.normal(size=(20000, 3))
        steps *= length / np.linalg.norm(steps, axis=1, keepdims=True)
        allowed = steps[steps @ f >= least]
        assert (allowed @ r).max() <= found @ r + 1e-4


def test_hamu_stops_for_good_only_if_asked():
    forget = lambda p, b: jnp.sum(p) * b[0]
    retain = lambda p, b: -p[0] - b[0] * p[1]
    steps = {}
    for stop in (False, True):
        method = hamu(forget, retain, optax.sgd(1.0), constraint=0.9, stop=stop)
        p, state = jnp.zeros(2), method.init(jnp.zeros(2))
        for x in (1.0, -1.0):  # opposite: stop; then r = (−1, 1) is across f
            batches = {"forget": jnp.ones((1, 1)), "retain": jnp.full((1, 1), x)}
            p, state, _ = jax.jit(method.update)(p, state, batches)
            assert state.stopped
        steps[stop] = p
    np.testing.assert_array_equal(steps[True], [0, 0])
    assert np.linalg.norm(steps[False]) > 1


# --- SAUL -----------------------------------------------------------------------------

# L_f = x, which is raised; R = ½ (x + 1)².
ASCENT = lambda p, b: -p
RETAIN = lambda p, b: (p + 1) ** 2 / 2


def test_saul_by_hand():
    """λ rises while x < 2 and falls beyond it; at 0 nothing of the forget step is."""
    momentum = optax.sgd(0.5, momentum=0.9)
    method = constrained(
        ASCENT, RETAIN, momentum, level=lambda b: 2.0, dual_step=2.0, multiplier=1.0
    )
    assert method.gradient_evaluations == 2 and method.parameter_updates == 2
    x = jnp.array(0.0)
    state = method.init(x)
    # λ = 1 + 2 · 2 = 5: x = 2.5; R' = 3.5: x = .75.
    x, state, metrics = jax.jit(method.update)(x, state, BATCHES)
    np.testing.assert_allclose([x, state.multiplier], [0.75, 5], rtol=1e-6)
    np.testing.assert_allclose(metrics["retain_loss"], 3.5**2 / 2)
    # λ = 5 + 2 · 1.25 = 7.5, momentum .9 · 5 + 7.5 = 12: x = 6.75;
    # R' = 7.75, momentum .9 · 3.5 + 7.75 = 10.9: x = 1.3. Two states, not one.
    x, state, _ = jax.jit(method.update)(x, state, BATCHES)
    np.testing.assert_allclose([x, state.multiplier], [1.3, 7.5], rtol=1e-6)
    # Far beyond the level λ is 0: only the retain step is left.
    x, before = jnp.array(9.0), state.forget
    x, state, metrics = jax.jit(method.update)(x, state, BATCHES)
    np.testing.assert_allclose(x, 9 - 0.5 * (0.9 * 10.9 + 10), rtol=1e-6)
    assert state.multiplier == metrics["multiplier"] == 0
    jax.tree.map(np.testing.assert_array_equal, state.forget, before)


def test_saul_may_measure_what_it_does_not_descend():
    """The loss is 3 (1 − x), the level one of x."""
    method = constrained(
        lambda p, b: 3 * (1 - p),
        RETAIN,
        optax.sgd(1.0),
        level=lambda b: b[0],
        measure=lambda p, b: p,
        dual_step=0.5,
    )
    assert method.gradient_evaluations == pytest.approx(2 + 1 / 3)
    batches = {"forget": jnp.full((1, 1), 4.0), "retain": jnp.zeros((1, 1))}
    x, state, _ = method.update(jnp.array(0.0), method.init(0.0), batches)
    np.testing.assert_allclose(state.multiplier, 2.0)  # ½ (4 − 0)
    np.testing.assert_allclose(x, -1.0)  # x = 6, whose R' = 7


def test_sharp_gradients_are_those_a_radius_away():
    # ℓ = ½ (x² + 4 y²) at (3, 1): g = (3, 4), so θ + ρ g / 5 with ρ = 1 is (3.6, 1.8).
    loss = lambda p, b: (p[0] ** 2 + 4 * p[1] ** 2) / 2
    start = jnp.array([3.0, 1.0])
    value, gradient = sharp_value_and_grad(loss, start, None, jnp.array(1.0))
    np.testing.assert_allclose(value, 6.5)
    np.testing.assert_allclose(gradient, [3.6, 7.2], rtol=1e-6)
    _, plain = sharp_value_and_grad(loss, start, None, 0.0)
    np.testing.assert_allclose(plain, [3, 4])
    _, at_rest = sharp_value_and_grad(loss, jnp.zeros(2), None, 1.0)
    np.testing.assert_array_equal(at_rest, [0, 0])
    theirs = optax.contrib.sam(
        optax.sgd(1.0),
        optax.chain(optax.contrib.normalize(), optax.sgd(1.0)),
        opaque_mode=True,
    )
    grad = jax.grad(lambda p, i: loss(p, None))
    step, _ = theirs.update(grad(start, 0), theirs.init(start), start, grad_fn=grad)
    np.testing.assert_allclose(-step, gradient, rtol=1e-6)


def test_the_forget_term_alone_is_sharpness_aware():
    forget = lambda p, b: (p[0] ** 2 + 4 * p[1] ** 2) / 2
    retain = lambda p, b: p[0] ** 2 / 2
    method = weighted_difference(
        forget, retain, optax.sgd(1.0), retain_weight=2.0, forget_radius=1.0
    )
    assert method.gradient_evaluations == 3
    start = jnp.array([3.0, 1.0])
    p, _, _ = method.update(start, method.init(start), BATCHES)
    np.testing.assert_allclose(start - p, [3.6 + 2 * 3, 7.2], rtol=1e-6)


def test_what_the_level_is_in_and_what_may_be_descended():
    loss = methods.METHODS["saul"].config.loss
    spec = methods.METHODS["saul"]
    carried = lambda **more: spec.carries(
        methods.Baseline(type(loss)(**more), learning_rate=1.0)
    )
    assert carried(level=1.5) == methods.Carries(target_nll=1.5)
    assert carried(unit="nats", forget="npo") == methods.Carries(reference_nll=True)
    setting = methods.Setting(lambda *a: a, optax.sgd(1.0))
    cost = lambda **more: (
        methods.build("saul", setting, type(loss)(**more)).gradient_evaluations
    )
    assert cost() == 4 and cost(radius=0.0) == 2
    assert cost(radius=0.0, forget="npo", retain="kl") == pytest.approx(2 + 2 / 3)
    with pytest.raises(ValueError, match="forget='none' is unknown; choose nll or npo"):
        methods.build(
            "gru", setting, methods.METHODS["gru"].config.loss.__class__("none")
        )
