"""A run that was stopped and goes on is the run that was not, bit for bit."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resume_toys import METHOD, RULE, START, check, fit, stream

from ofmu_jax.methods import Method
from ofmu_jax.training import loop


class Stopped(Exception):
    """In place of the end of the process."""


class Memory:
    """A saver that takes one snapshot, as plain values, and ends the run there."""

    def __init__(self, at: int):
        self.at, self.taken = at, None

    def due(self, update: int) -> bool:
        return update == self.at

    def save(self, snapshot: loop.Snapshot) -> None:
        hold = lambda x: (
            np.array(jax.random.key_data(x))
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else np.array(x)
        )
        arrays = jax.tree.map(hold, (snapshot.params, snapshot.state, snapshot.kept))
        record = json.loads(json.dumps(snapshot.record))
        self.taken = (snapshot.update, arrays, record, snapshot.position)
        raise Stopped

    def restore(self, like: loop.Snapshot) -> loop.Snapshot | None:
        if self.taken is None:
            return None
        update, (params, state, kept), record, position = self.taken
        params = jax.tree.map(jnp.array, params)
        if hasattr(state, "key"):
            state = state._replace(
                key=jax.random.wrap_key_data(state.key), scale=jnp.asarray(state.scale)
            )
        state = jax.tree.map(jnp.array, state)
        return loop.Snapshot(update, params, state, kept, record, position)


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def assert_same(found: loop.Run, expected: loop.Run):
    assert bits(found.params) == bits(expected.params)
    for name in ("update", "updates", "stopped", "finite", "metrics", "checks"):
        assert repr(getattr(found, name)) == repr(getattr(expected, name)), name
    assert found.peak_bytes == expected.peak_bytes


def stopped_and_resumed(at: int, run) -> loop.Run:
    memory = Memory(at)
    with pytest.raises(Stopped):
        run(memory)
    return run(memory)


@pytest.fixture(scope="module")
def whole():
    return fit()


def test_the_run_is_one_that_shows_everything(whole):
    """It meets its target, keeps a check in the middle, and patience ends it."""
    assert "met; no longer improved" in whole.stopped
    assert 0 < whole.update < whole.updates < 24
    assert len({row["retain_loss"] for row in whole.metrics}) == whole.updates


def test_stopped_after_any_update(whole):
    for at in range(1, whole.updates + 1):
        assert_same(stopped_and_resumed(at, fit), whole)


def test_what_is_kept_is_in_the_snapshot_only_if_it_is_nowhere_else(whole):
    kept = {}
    for at in (2, 3, whole.update, whole.update + 2):
        memory = Memory(at)
        with pytest.raises(Stopped):
            fit(memory)
        kept[at] = memory.taken[1][2] is not None
    assert kept == {2: False, 3: False, whole.update: False, whole.update + 2: True}


def test_the_stream_goes_on_where_it_was():
    draws: list = []
    run = lambda saver=None: fit(saver, batches=stream(draws=draws), stopping=None)
    run()
    expected, draws[:] = list(draws), []
    stopped_and_resumed(11, run)
    np.testing.assert_array_equal(draws, expected)  # none twice, none left out


def test_a_stream_without_a_position_is_drawn_from_as_far():
    draws = []

    def plain():
        for number in itertools.count():
            draws.append(number)
            yield {"retain": {"x": np.full((1, 1), number, np.float32)}}

    def run(saver=None):
        update = lambda p, s, b: (p + b["retain"]["x"][0, 0], s, {"a_loss": p})
        method = Method(lambda p: (), update, 1, 1.0)
        return loop.run(method, jnp.array(0.0), plain(), num_updates=9, saver=saver)

    expected = run()
    assert float(expected.params) == 36
    draws.clear()
    assert_same(stopped_and_resumed(4, run), expected)
    assert draws == [*range(4), *range(9)]


def test_observers_are_told_of_every_row_once_per_process(whole):
    told: list = []
    run = lambda saver: fit(saver, on_update=lambda *row: told.append(row))
    memory = Memory(7)
    with pytest.raises(Stopped):
        run(memory)
    assert [row[0] for row in told] == list(range(1, 7))  # the 7th was not read yet
    told.clear()
    run(memory)
    assert [row[0] for row in told] == list(range(1, whole.updates + 1))
    assert [row[1]["retain_loss"] for row in told] == [
        row["retain_loss"] for row in whole.metrics
    ]


@pytest.mark.parametrize("at", [2, 3, 4, 5])
def test_a_run_that_breaks_is_the_same_broken_run(at):
    """The loss is NaN from update 4 on and update 5 reads it; 4 is a check, too."""

    def update(params, state, batches):
        value = jnp.where(params > -2.5, params, jnp.nan)
        return params - 1, state, {"retain_loss": value}

    method = Method(lambda p: (), update, 1, 1.0)
    batches = lambda: itertools.repeat({"x": np.zeros(1, np.float32)})

    def run(saver=None):
        options = {"num_updates": 9, "check_every": 3, "saver": saver}
        return loop.run(method, jnp.array(0.0), batches(), **options)

    expected = run()
    assert "retain_loss is nan at update 4" in expected.stopped
    assert expected.updates == 5
    assert_same(stopped_and_resumed(at, run), expected)


def test_a_snapshot_of_the_last_update_needs_no_further_one():
    run = lambda saver=None: fit(saver, num_updates=6, stopping=None)
    assert_same(stopped_and_resumed(6, run), run())


def test_the_check_before_the_first_update_is_not_repeated():
    seen = []

    def counted(params):
        seen.append(1)
        return check(params)

    run = lambda saver: fit(saver, check=counted, num_updates=6, stopping=None)
    stopped_and_resumed(4, run)
    assert len(seen) == 2 + 1  # updates 0 and 3, then 6


def test_other_savers_may_decline():
    class Never:
        def restore(self, like):
            assert jax.tree.structure(like.params) == jax.tree.structure(START)
            assert like.update == 0
            return None

        def due(self, update):
            return False

    result = loop.run(METHOD, START, stream(), num_updates=2, saver=Never())
    assert result.updates == 2
    assert RULE.patience == 4
