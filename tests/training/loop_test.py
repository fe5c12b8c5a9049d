"""Methods, their cost, and the loop: answers known for quadratics in one variable."""

import functools
import itertools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ofmu_jax import methods
from ofmu_jax.bilevel import CURVATURES, evaluate_phi
from ofmu_jax.methods.ofmu import gradient_evaluations
from ofmu_jax.training import loop

FORGET = lambda p, batch: jnp.sum((p - batch["x"].mean()) ** 2)
RETAIN = lambda p, batch: jnp.sum((p - 1.0) ** 2) + 0.0 * batch["x"].sum()


def stream(size, value=0.0):
    batch = {"x": np.full((size, 2), value, np.float32)}
    return itertools.repeat({"forget": batch, "retain": batch})


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


def values_of(path):
    """A check that reads prepared values instead of a model."""
    path = iter(path)

    def check(params):
        forget, retain = next(path)
        return {"forget_nll": forget, "retain_nll": retain, "theta": float(params)}

    return check


def descend(rate=1.0):
    """θ falls by `rate` an update, so parameters tell which update they are of."""
    return methods.fine_tune(lambda p, b: jnp.sum(p), optax.sgd(rate))


def test_returns_the_best_check_among_those_that_met_the_target():
    # (forget NLL, retain NLL) at updates 0, 2, 4, 6, 8, 10.
    path = [(0.1, 0.1), (0.9, 0.2), (2.1, 0.9), (2.2, 0.5), (1.5, 0.1), (9.0, 0.3)]
    result = loop.run(
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=10,
        check=values_of(path),
        check_every=2,
        stopping=loop.StoppingRule(forget_target=2.0, patience=9),
    )
    assert (result.update, result.updates) == (6, 10)
    assert float(result.params) == -6.0
    assert "forget target 2.000 met" in result.stopped
    assert [row["update"] for row in result.checks] == [0, 2, 4, 6, 8, 10]
    assert [row["update"] for row in result.metrics] == list(range(1, 11))


def test_patience_ends_the_run():
    path = [(0, 0)] + [(3.0, 0.5)] + [(3.0, 0.6)] * 9
    result = loop.run(
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=10,
        check=values_of(path),
        check_every=1,
        stopping=loop.StoppingRule(forget_target=2.0, patience=3),
    )
    assert (result.update, result.updates) == (1, 4)
    assert "no longer improved" in result.stopped


def test_budget_without_the_target_returns_the_last_and_says_so():
    result = loop.run(
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=3,
        check=values_of([(0, 0)] * 9),
        stopping=loop.StoppingRule(forget_target=2.0),
    )
    assert float(result.params) == -3.0
    assert "was not met" in result.stopped


def test_nan_returns_the_last_good_parameters_and_says_so():
    # log(3 − updates) is NaN from the fourth update on.
    method = methods.fine_tune(
        lambda p, b: jnp.where(p > -3.5, jnp.sum(p), jnp.nan), optax.sgd(1.0)
    )
    result = loop.run(
        method,
        jnp.array(0.0),
        stream(1),
        num_updates=10,
        check=lambda p: {"forget_nll": 0.0, "retain_nll": 0.0},
        check_every=2,
    )
    assert not result.finite
    assert float(result.params) == -4.0
    assert "retain_loss is nan" in result.stopped
    assert "update 4" in result.stopped


def test_nan_in_a_check_returns_the_check_before():
    path = [(0, 0), (1.0, 1.0), (float("nan"), 1.0)]
    result = loop.run(
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=10,
        check=values_of(path),
        check_every=1,
    )
    assert not result.finite
    assert float(result.params) == -1.0
    assert result.updates == 2


def test_a_broken_start_is_an_error():
    with pytest.raises(FloatingPointError, match="before the first update"):
        loop.run(
            descend(),
            jnp.array(0.0),
            stream(1),
            num_updates=1,
            check=values_of([(float("inf"), 0)]),
        )


def test_batches_that_end_early_are_an_error():
    with pytest.raises(ValueError, match="ended after 2 of 5 updates"):
        loop.run(
            descend(), jnp.array(0.0), itertools.islice(stream(1), 2), num_updates=5
        )


def test_the_callers_parameters_survive_donation():
    params = {"w": jnp.ones(3)}
    method = methods.fine_tune(lambda p, b: jnp.sum(p["w"] ** 2), optax.sgd(0.1))
    loop.run(method, params, stream(1), num_updates=2)
    np.testing.assert_array_equal(params["w"], 1)


def test_the_decision_follows_from_the_recorded_checks_alone():
    path = [(0.1, 0.1), (2.1, 0.9), (2.2, 0.5), (1.5, 0.1), (2.3, 0.6), (2.4, 0.6)]
    rule = loop.StoppingRule(forget_target=2.0, patience=2)
    result = loop.run(
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=9,
        check=values_of(path),
        check_every=1,
        stopping=rule,
    )
    assert (result.update, result.updates) == (2, 5)
    verdicts = [loop.judge(rule, result.checks[:i]) for i in range(1, 7)]
    assert [v.best_update for v in verdicts] == [None, 1, 2, 2, 2, 2]
    assert [v.enough for v in verdicts] == [False] * 5 + [True]


@pytest.mark.parametrize("check", [None, lambda p: {"forget_nll": 1, "retain_nll": 1}])
def test_nan_in_a_parameter_that_no_loss_sees_is_found(check):
    # θ falls by 1 an update, the loss stays 1, and "unseen" is log(4.5 + θ).
    def update(params, state, batches):
        theta = params["theta"] - 1
        unseen = jnp.log(4.5 + params["theta"])
        return {"theta": theta, "unseen": unseen}, state, {"retain_loss": jnp.ones(())}

    method = methods.Method(
        lambda p: (), update, batches_per_update=1, gradient_evaluations=1
    )
    result = loop.run(
        method,
        {"theta": jnp.array(0.0), "unseen": jnp.array(0.0)},
        stream(1),
        num_updates=9,
        check=check,
        check_every=3,
    )
    # Update 6 takes log(4.5 − 5) and is found at the check after it.
    assert (result.update, result.updates, result.finite) == (3, 6, False)
    np.testing.assert_allclose(result.params["unseen"], np.log(2.5), rtol=1e-6)
    assert result.stopped == (
        "parameter ['unseen'] is not finite at update 6; "
        "returned the last good parameters, of update 3"
    )


def test_nan_after_the_target_was_met_returns_the_best_check():
    path = [(0, 0), (2.0, 0.5), (2.5, 0.9), (float("nan"), 1.0)]
    result = loop.run(
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=10,
        check=values_of(path),
        check_every=1,
        stopping=loop.StoppingRule(forget_target=2.0),
    )
    assert (result.update, float(result.params), result.updates) == (1, -1.0, 3)
    assert not result.finite
    assert "forget_nll is nan at update 3; returned the best check" in result.stopped


def test_without_a_check_the_guard_still_keeps_good_parameters():
    method = methods.fine_tune(
        lambda p, b: jnp.where(p > -4.5, jnp.sum(p), jnp.nan), optax.sgd(1.0)
    )
    result = loop.run(method, jnp.array(0.0), stream(1), num_updates=9, check_every=3)
    # Looked at after updates 3 and 6 (NaN by then); the loss of θ = −5 was NaN at 6.
    assert (result.update, float(result.params), result.finite) == (3, -3.0, False)
    assert "retain_loss is nan at update 6; returned the last good" in result.stopped
    assert [np.isnan(row["retain_loss"]) for row in result.metrics][:6] == (
        [False] * 5 + [True]
    )


def test_a_start_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match=r"\['w'\] is not finite before"):
        loop.run(descend(), {"w": jnp.array([1.0, jnp.inf])}, stream(1), num_updates=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forget_target": float("nan")}, "forget_target=nan is not finite"),
        ({"patience": 0}, "patience=0 must be at least 1"),
    ],
)
def test_bad_rules_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        loop.StoppingRule(**options)


def test_a_target_needs_something_to_judge():
    run = functools.partial(
        loop.run,
        descend(),
        jnp.array(0.0),
        stream(1),
        num_updates=1,
        stopping=loop.StoppingRule(forget_target=2.0),
    )
    with pytest.raises(ValueError, match="needs a check"):
        run()
    with pytest.raises(ValueError, match=r"needs \['retain_nll'\] as well"):
        run(check=lambda p: {"forget_nll": 1.0})
    with pytest.raises(ValueError, match="check_every=0"):
        run(check=values_of([(0, 0)] * 3), check_every=0)


def test_a_state_that_holds_the_parameters_is_donated_once():
    # The distance to the start: d(θ − θ₀)²/dθ, with θ₀ the very arrays of θ.
    def update(params, start, batches):
        moved = jax.tree.map(lambda p, s: p + 1 + 0 * s, params, start)
        distance = moved["w"][0] - start["w"][0]
        return moved, start, {"distance_loss": distance}

    method = methods.Method(
        lambda p: p, update, batches_per_update=1, gradient_evaluations=1
    )
    result = loop.run(method, {"w": jnp.zeros(3)}, stream(1), num_updates=3)
    assert [row["distance_loss"] for row in result.metrics] == [1, 2, 3]


@pytest.fixture
def compilations():
    """Counts the programs that jax compiles (or reads from its cache)."""
    found = []

    def listen(event, seconds, **kwargs):
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_memory_of_a_step_and_no_second_compilation(compilations):
    traced = []

    def make():
        def update(params, state, batches):
            traced.append(1)
            return params + batches["x"].mean(), state + 1, {"a_loss": state}

        init = lambda p: jnp.zeros(())
        return methods.Method(init, update, 1, gradient_evaluations=1)

    rows = [{"x": np.ones(2, np.float32)} for _ in range(3)]
    start = {"params": jnp.zeros(1000), "num_updates": 3}
    loop.run(make(), batches=rows, **start)  # compiles the loop's own helpers
    del traced[:], compilations[:]
    run = functools.partial(loop.run, make(), **start)
    first = run(batches=rows)
    assert (len(traced), len(compilations)) == (1, 1)
    # 4000 bytes of parameters are donated: in and out are the same memory. A result
    # that is computed before it is written may need them once more.
    assert 4000 <= first.peak_bytes < 3 * 4000
    del compilations[:]
    again = run(batches=rows)
    assert (len(traced), compilations) == (1, [])
    assert again.peak_bytes == first.peak_bytes
    # Another shape in the midst of a run: compiled once more, for that shape.
    rows[1] = {"x": np.full((5, 2), 3.0, np.float32)}
    other = run(batches=rows)
    assert (len(traced), len(compilations)) == (2, 1)
    assert float(other.params[0]) == 1 + 3 + 1
    assert run(batches=[], num_updates=0).peak_bytes is None


def test_memory_where_the_backend_gives_no_analysis():
    class Compiled:
        def memory_analysis(self):
            if isinstance(self.found, Exception):
                raise self.found
            return self.found

    class Sizes:
        argument_size_in_bytes, output_size_in_bytes = 100, 70
        temp_size_in_bytes, alias_size_in_bytes = 8, 64

    compiled = Compiled()
    for found, expected in (
        (Sizes, 100 + 70 + 8 - 64),
        (None, None),
        (NotImplementedError(), None),
    ):
        compiled.found = found
        assert loop.step_bytes(typing.cast(typing.Any, compiled)) == expected


@pytest.mark.parametrize("placed", [False, True])
def test_a_run_compiles_its_step_once(placed, caplog):
    params = {"w": jnp.ones(3)}
    if placed:  # as restored from a checkpoint; the fresh optimizer state is not
        params = jax.device_put(params, jax.devices()[0])
    tx = optax.adam(0.1)

    def update(params, state, batch):
        grads = jax.tree.map(lambda w: w * batch["x"], params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, {"a_loss": batch["x"]}

    method = methods.Method(tx.init, update, 1, 1.0)
    batches = itertools.repeat({"x": np.ones(())})
    with jax.log_compiles(), caplog.at_level("WARNING"):
        loop.run(method, params, batches, num_updates=4)
    compiled = "Finished XLA compilation of jit(update)"
    assert sum(compiled in record.getMessage() for record in caplog.records) == 1
