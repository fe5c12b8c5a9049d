"""The inner optimizers of OFMU: Polyak's step, known on paper, and what is refused."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ofmu_jax
from experiments.config.language import Choices, OfmuConfig, Request
from ofmu_jax.methods.inner_optimizers import (
    PolyakState,
    eased,
    inner_optimizer,
    kept,
    maximum_of,
    polyak,
)
from ofmu_jax.methods.language.of_model import of_model
from ofmu_jax.methods.language.ofmu import PRETRAINED, paper_setting
from ofmu_jax.methods.ofmu_fit import cautions


def ascend(optimizer, loss, start, steps):
    return ofmu_jax.inner_ascent(
        start,
        lambda p, i: loss(p),
        lambda p, i: 0.0 * jnp.sum(p),
        inner_optimizer=optimizer,
        inner_steps=steps,
        beta=0.0,
    )


class PolyakTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_a_linear_gap_is_closed_by_the_fraction(self):
        # Φ = θ₁ − 8: from gap 8, steps of a half leave 8 / 2^T.
        walk = self.variant(
            lambda p: ascend(polyak(0.5, longest=1e3), lambda p: p[0] - 8.0, p, 3)
        )
        np.testing.assert_allclose(walk(jnp.array([0.0, 1.0])).params, [7.0, 1.0])

    def test_a_quadratic_gap_is_closed_half_way(self):
        # Φ = −½ s θ²: (½ s θ²) / (s θ)² · s θ = ½ θ, whatever the scale s is.
        for scale in (1e-6, 1.0, 1e6):
            loss = lambda p, scale=scale: -0.5 * scale * jnp.sum(p**2)
            found = ascend(polyak(1.0, longest=1e3), loss, jnp.array([4.0]), 2)
            np.testing.assert_allclose(found.params, [1.0], rtol=1e-5)


def test_a_flat_slope_takes_the_longest_step_and_no_slope_none():
    params, options = jnp.array([3.0, 4.0]), {"value": jnp.float32(2.0)}
    tx = polyak(1.0, longest=0.01)
    step = lambda g: tx.update(jnp.asarray(g), tx.init(params), params, **options)[0]
    np.testing.assert_allclose(step([0.0, -1e-8]), [0.0, 0.05], rtol=1e-6)
    np.testing.assert_array_equal(step([0.0, 0.0]), [0.0, 0.0])
    with pytest.raises(ValueError, match=r"polyak needs update\(…, params"):
        tx.update(params, tx.init(params), **options)


class CheckedTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_a_parabola_is_met_where_it_has_closed_the_fraction(self):
        # Φ = θ + 60 θ² − 8: half of the gap, 4, is closed at ¼, as ¼ + 60/16 = 4.
        parabola = lambda p: p[0] + 60 * p[0] ** 2 - 8.0
        walk = self.variant(
            lambda p, steps: ascend(
                polyak(0.5, longest=1e3, checked=True), parabola, p, steps
            ),
            static_argnums=1,
        )
        start = jnp.array([0.0, 1.0])
        once, thrice = walk(start, 1), walk(start, 3)
        np.testing.assert_allclose(once.params, [0.25, 1.0], rtol=1e-5)
        np.testing.assert_allclose(once.optimizer_state.bend, 60, rtol=1e-5)
        np.testing.assert_allclose(parabola(thrice.params), -1.0, rtol=1e-4)

    def test_lengths_at_most_double(self):
        # Φ = θ − 8 has no bend. An eighth of Polyak's length 4 is tried: c = 14, as
        # ½ + 14/4 = 4. A quarter of it stays, and c t² + t = 4 is met there.
        # c falls while c t is above the slope, 1.
        start = jnp.array([0.0, 1.0])
        found = ascend(
            polyak(0.5, longest=1e3, checked=True), lambda p: p[0] - 8.0, start, 1
        )
        t = found.params[0]
        np.testing.assert_allclose(found.optimizer_state.bend, 3.5)
        np.testing.assert_allclose(3.5 * t**2 + t, 4, rtol=1e-6)
        assert 0.5 < t < 1.0
        many = ascend(
            polyak(0.5, longest=1e3, checked=True), lambda p: p[0] - 8.0, start, 9
        )
        assert many.optimizer_state.bend == 3.5 / 16
        assert -0.11 < many.params[0] - 8 < 0

    def test_a_step_that_goes_too_far_is_cut(self):
        # From 1 the slope says that an eighth of 3.5 is safe; from 1.1 on it is not.
        for beyond in (1e3, -1e3, jnp.nan):
            cliff = lambda p, x=beyond: jnp.where(p[0] > 1.1, x, 0.0)
            found = ascend(
                polyak(0.5, longest=1e3, checked=True),
                lambda p, cliff=cliff: p[0] - 8.0 + cliff(p),
                jnp.array([1.0]),
                1,
            )
            t = found.params[0] - 1
            c = 1e3 / 0.4375**2 if beyond > 0 else 16 * 56 / 3.5
            np.testing.assert_allclose(found.optimizer_state.bend, c, rtol=1e-5)
            np.testing.assert_allclose(c * t**2 + t, 3.5, rtol=1e-4)

    def test_at_the_maximum_and_without_a_slope_it_rests(self):
        tx, params = polyak(1.0, checked=True), jnp.ones(2)
        for slope, value in ((jnp.ones(2), 0.0), (jnp.zeros(2), 1.0)):
            update, state = tx.update(
                slope,
                tx.init(params),
                params,
                value=jnp.float32(value),
                value_fn=lambda p: jnp.float32(1.0),
            )
            np.testing.assert_array_equal(update, jnp.zeros(2))
            assert state.bend == 0

    def test_what_is_held_of_phi_is_no_part_of_the_gap(self):
        # Φ = θ + 60 θ² − 8 − 5, of which 5 are held: half of the gap is 4.
        tx = polyak(0.5, longest=1e3, checked=True)
        params = jnp.array([0.0, 1.0])
        value_fn = lambda p: 13.0 - p[0] - 60 * p[0] ** 2
        slope = jnp.array([-1.0, 0.0])
        given = {"value": jnp.float32(13.0), "value_fn": value_fn, "held": 5.0}
        update, _ = tx.update(slope, tx.init(params), params, **given)
        np.testing.assert_allclose(update, [0.25, 0.0], rtol=1e-5)

    def test_a_share_of_the_fraction(self):
        # Half of a half of the gap 16 is 4, as above.
        tx = polyak(0.5, longest=1e3, checked=True, share=0.5)
        params = jnp.array([0.0, 1.0])
        value_fn = lambda p: 16.0 - p[0] - 60 * p[0] ** 2
        slope = jnp.array([-1.0, 0.0])
        given = {"value": jnp.float32(16.0), "value_fn": value_fn}
        update, _ = tx.update(slope, tx.init(params), params, **given)
        np.testing.assert_allclose(update, [0.25, 0.0], rtol=1e-2)

    def test_without_a_function_of_the_value_it_says_so(self):
        tx = polyak(1.0, checked=True)
        params = jnp.ones(2)
        with pytest.raises(ValueError, match=r"value=…, value_fn=…"):
            tx.update(params, tx.init(params), params, value=jnp.float32(-1.0))

    def test_it_is_counted_as_a_third_of_a_gradient_a_step(self):
        counts = [
            OfmuConfig(inner_check=check, inner_steps=2)
            .create(lambda p, b: 0.0, lambda p, b: 0.0, optax.sgd(1.0))
            .gradient_evaluations
            for check in (False, True)
        ]
        np.testing.assert_allclose(counts, [5.0, 5 + 2 / 3])
        fixed = OfmuConfig(inner_check=True, inner_optimizer="normalized")
        made = fixed.create(lambda p, b: 0.0, lambda p, b: 0.0, optax.sgd(1.0))
        assert made.gradient_evaluations == 4


@pytest.mark.parametrize(
    ("retain_loss", "share", "level", "left"),
    [
        (0.2, 0.75, 0.275, 1),  # lower than ever: half as much again
        (0.5, 0.5 * 2**0.5, 0.30625, 1),  # half of what may break
        (0.7, 0.5, 0.3125, 1),  # just what may
        (1.1, 0.5 / 2**0.5, 0.325, 0.5**0.5),  # twice of it
        (10.3, 0.125, 0.6125, 0.2),  # asked for no less than a quarter
        (np.nan, 0.125, 0.3, 1),
    ],
)
def test_what_breaks_too_much_is_taken_back_and_not_asked_for_again(
    retain_loss, share, level, left
):
    state = PolyakState(*map(jnp.float32, (1.0, 0.5, 0.3)))
    found = eased(state, jnp.float32(retain_loss), 0.4)
    np.testing.assert_allclose(found, (1.0, share, level), rtol=1e-5)
    share = kept(state, jnp.float32(retain_loss), 0.4)
    np.testing.assert_allclose(share, left, rtol=1e-5)


def test_the_first_loss_is_the_level():
    first = polyak(0.5, checked=True, share=0.5).init(jnp.ones(2))
    assert kept(first, jnp.float32(9.0), 0.4) == 1
    np.testing.assert_allclose(eased(first, jnp.float32(9.0), 0.4), (0, 0.75, 9.0))


def test_a_method_eases_its_ascents_by_the_retain_loss_that_they_left():
    # Φ = θ − 8 climbs, L_r = θ² breaks: ¼ of the fraction at first, half as much again
    # after the first look, from which the level is; then less, as θ² grows.
    config = OfmuConfig(beta=0.0, rho=0.0, inner_check=True, inner_harm=0.1)
    method = config.create(
        lambda p, b: p[0] - 8.0, lambda p, b: p[0] ** 2, optax.sgd(1e-4)
    )
    params, shares = jnp.array([0.0, 1e3]), []
    state = method.init(params)
    batches = {"forget": jnp.zeros(4), "retain": jnp.zeros(4)}
    for _ in range(3):
        params, state, _ = method.update(params, state, batches)
        shares.append(float(state.inner_state.share))
    assert shares[0] == 0.375 and shares[2] < shares[1] < shares[0]
    plain = dataclasses.replace(config, inner_harm=None)
    method = plain.create(lambda p, b: p[0] - 8.0, lambda p, b: p[0], optax.sgd(1.0))
    _, state, _ = method.update(params, method.init(params), batches)
    assert state.inner_state.share == 1


def test_an_update_that_broke_too_much_is_taken_back():
    # L_r = θ² from a level of .25: the way is cut by √(harm / what is above).
    def updated(harm):
        config = OfmuConfig(beta=0.0, rho=0.0, inner_check=True, inner_harm=harm)
        method = config.create(
            lambda p, b: p[0] - 8.0, lambda p, b: p[0] ** 2, optax.sgd(1e-4)
        )
        params = jnp.array([1.0, 1e3])
        state = method.init(params)
        inner = state.inner_state._replace(retain_loss=jnp.float32(0.25))
        batches = {"forget": jnp.zeros(4), "retain": jnp.zeros(4)}
        new, _, metrics = method.update(
            params, state._replace(inner_state=inner), batches
        )
        return new - params, float(metrics["retain_loss"])

    (whole, left), (part, same) = updated(1e3), updated(0.5)
    assert left == same > 1.0  # both are told what the whole way broke
    np.testing.assert_allclose(part, whole * (0.5 / (left - 0.25)) ** 0.5, rtol=1e-5)


def test_a_pretrained_model_is_warned_of_steps_that_nobody_checks():
    for config, noted in (
        (OfmuConfig(), True),
        (OfmuConfig(inner_check=True), False),
        (OfmuConfig(inner_optimizer="normalized", inner_learning_rate=0.01), False),
    ):
        notes = [*cautions(config, "float32", "./given")]
        assert any("--ofmu.inner-check" in note for note in notes) == noted
        assert not [*cautions(config, "float32", None)]
    assert Request().ofmu.inner_check and Choices().ofmu.inner_check


def test_a_harm_that_nobody_watches_is_told_of():
    other = functools.partial(dataclasses.replace, PRETRAINED)
    for config, noted in (
        (PRETRAINED, False),
        (other(inner_check=False), True),
        (other(inner_optimizer="adam"), True),
        (paper_setting(PRETRAINED), False),
    ):
        notes = [*cautions(config, "float32", None)]
        assert any("--ofmu.inner-harm 0.3" in note for note in notes) == noted


def test_a_pretrained_model_is_warned_of_a_look_ahead_that_goes_far():
    checked = OfmuConfig(inner_check=True)
    near = dataclasses.replace(checked, lookahead_max_step=2e-5)
    exact = dataclasses.replace(checked, curvature="vjp")
    for config, noted in ((checked, True), (near, False), (exact, False)):
        notes = [*cautions(config, "float32", "./given")]
        assert any("--ofmu.lookahead-max-step" in note for note in notes) == noted
        assert not [*cautions(config, "float32", None)]
    for run in (Request(), Choices()):
        assert not [*cautions(run.ofmu, "float32", "./given")]


def test_beyond_the_maximum_it_rests():
    tx = polyak(1.0)
    params = jnp.ones(2)
    update, _ = tx.update(params, tx.init(params), params, value=jnp.float32(-1.0))
    np.testing.assert_array_equal(update, jnp.zeros(2))


@pytest.mark.parametrize("similarity", ["cosine", "squared_cosine"])
@pytest.mark.parametrize("forget_loss", ["target_cross_entropy", "npo", "simnpo"])
def test_no_phi_is_above_its_maximum(forget_loss, similarity):
    # Of a bounded loss ≤ 0 and gradients at any angle; reached at −1 by the cosine.
    maximum = maximum_of(forget_loss, 0.3, similarity)
    for angle in np.linspace(0, np.pi, 7):
        turn = jnp.array([np.cos(angle), np.sin(angle)])
        phi = ofmu_jax.inner_objective(
            jnp.zeros(2),
            lambda p: p[0],
            lambda p, turn=turn: p @ turn,
            beta=0.3,
            similarity=similarity,
        )
        assert phi <= maximum + 1e-6
    assert similarity != "cosine" or np.isclose(phi, maximum)
    assert maximum_of("cross_entropy", 0.3, similarity) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", [-1.5, -2.0]),
        ("clipped", [-0.3, -0.4]),
        ("normalized", [-0.3, -0.4]),
        ("adam", [-0.5, -0.5]),
        ("polyak", [-0.15, -0.2]),  # ½ · gap 2.5 / norm 5
    ],
)
def test_the_first_step_of_each(name, expected):
    optimizer = inner_optimizer(name, 0.5, maximum=0.5, longest=1.0)
    optimizer = optax.with_extra_args_support(optimizer)
    gradient = jnp.array([3.0, 4.0])
    state = optimizer.init(gradient)
    value = {"value": jnp.float32(2.0)}
    update, _ = optimizer.update(gradient, state, gradient, **value)
    np.testing.assert_allclose(update, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"inner_optimizer": "polyak", "rho": 0.0}, "optimizer polyak"),
        ({"inner_optimizer": "clipped"}, "penalty value_gap"),
    ],
)
def test_a_maximum_needs_a_bounded_loss(options, named):
    config = OfmuConfig(forget_loss="cross_entropy", **options)
    apply_fn = lambda *_: jnp.zeros(())
    with pytest.raises(ValueError, match=f"{named}.*cross_entropy has none; choose"):
        of_model("ofmu", config, 100, apply_fn, None)
    norm = {"penalty": "gradient_norm", "penalty_gradient": "secant"}
    bounded = dataclasses.replace(config, inner_optimizer="clipped", **norm)
    assert of_model("ofmu", bounded, 100, apply_fn, None).gradient_evaluations


def test_on_a_mesh_the_step_is_the_same():
    if jax.device_count() < 2:
        pytest.skip("needs two devices")
    mesh = jax.make_mesh((2,), ("x",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    loss = lambda p: -0.5 * jnp.sum((p - 3.0) ** 2)
    walk = jax.jit(lambda p: ascend(polyak(0.3), loss, p, 3).params)
    start = jnp.linspace(1.0, 2.0, 8)
    chex.assert_trees_all_close(
        walk(jax.device_put(start, spread)), walk(start), rtol=1e-6
    )
