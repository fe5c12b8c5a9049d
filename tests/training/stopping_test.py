"""Which check a run returns, and when it ends: paths of prepared checks."""

import functools

import jax.numpy as jnp
import pytest
from loop_toys import descend, stream, values_of

from ofmu_jax.training import loop


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
