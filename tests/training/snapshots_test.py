"""Snapshots on disk: the run goes on from the newest that can be used, or says why."""

import errno
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from resume_toys import fit

from ofmu_jax.training import checkpoint, loop, snapshots
from ofmu_jax.training.snapshots import Snapshots


class Stopped(Exception):
    pass


class StoppedAt(Snapshots):
    """Ends the run at an update, right after it was asked for a snapshot."""

    def __init__(self, folder, identity="a", *, at=None, every=None, warned=None):
        warn = None if warned is None else warned.append
        super().__init__(folder, identity, every=every, warn=warn)
        self.at, self.restored = at, None

    def restore(self, like):
        found = super().restore(like)
        self.restored = None if found is None else found.update
        return found

    def due(self, update):
        if update == self.at:
            self.wait()
            raise Stopped
        return super().due(update)


def names(folder) -> list[str]:
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def whole():
    return fit()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """What a run leaves that took snapshots at 3, 6 and 9 and was stopped at 10."""
    folder = tmp_path_factory.mktemp("run") / "progress"
    with pytest.raises(Stopped):
        fit(StoppedAt(folder, every=3, at=10))
    return folder


@pytest.fixture
def progress(stopped, tmp_path):
    return pathlib.Path(shutil.copytree(stopped, tmp_path / "progress"))


def assert_goes_on(progress, whole, *, after: int | None) -> list[str]:
    """Goes on after that update, to the same end; returns the warnings."""
    warned: list[str] = []
    saver = StoppedAt(progress, warned=warned)
    result = fit(saver)
    assert saver.restored == after
    assert bits(result.params) == bits(whole.params)
    assert repr((result.metrics, result.checks)) == repr((whole.metrics, whole.checks))
    assert (result.update, result.stopped) == (whole.update, whole.stopped)
    return warned


def test_keeps_the_last_two_and_goes_on_from_the_last(progress, whole):
    assert names(progress) == ["000000006", "000000009"]
    assert assert_goes_on(progress, whole, after=9) == []


def test_a_cut_file_is_named_and_the_one_before_is_used(progress, whole):
    files = [p for p in (progress / "000000009").rglob("*") if p.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    (warning,) = assert_goes_on(progress, whole, after=6)
    assert str(progress / "000000009") in warning
    assert largest.name in warning
    assert "damaged" in warning


def test_foreign_and_damaged_leave_the_start(progress, whole, tmp_path):
    (progress / "000000006" / checkpoint.SUMS).unlink()
    foreign = progress / "000000012"
    checkpoint.save(foreign, {"w": jnp.ones(2)}, {"format": 1, "identity": "other"})
    (progress / "000000009" / "notes.json").write_text("{")
    warned = assert_goes_on(progress, whole, after=None)
    assert len(warned) == 4
    assert "other settings" in warned[0] and str(foreign) in warned[0]
    assert "000000009 is damaged" in warned[1]
    assert "000000006 is damaged" in warned[2]
    assert names(progress) == ["000000006.unused", "000000009.unused"]
    assert warned[3].endswith(
        f"no snapshot is left in {progress}; starting at update 0."
    )


def test_of_another_model(progress):
    like = loop.Snapshot(0, {"w": jnp.ones(2)}, (), None, {}, None)
    with pytest.warns(UserWarning) as warned:
        assert Snapshots(progress, "a").restore(like) is None
    assert "another model" in str(warned[0].message)


def test_what_was_half_written_is_removed(progress, whole):
    (progress / "000000012.new.orbax-checkpoint-tmp").mkdir()
    (progress / "000000012.new").mkdir()
    (progress / "000000012.new" / "notes.json").write_text("{}")
    saver = Snapshots(progress, "a", every=0)
    assert fit(saver).update == whole.update
    assert names(progress) == ["000000006", "000000009"]
    saver.clear()
    assert not progress.exists()


class Shape(loop.NamedTuple):  # any tuple with names
    x: jax.Array
    more: dict


def test_every_kind_of_array_comes_back_as_it_was(tmp_path):
    mesh = jax.make_mesh((2,), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    split = jax.sharding.NamedSharding(mesh, spec)
    params = {
        "a/b": jax.device_put(jnp.arange(8, dtype=jnp.bfloat16), split),
        "a": {"b": jnp.asarray([np.inf, -0.0, 1e-45])},
        "none": None,
        "empty": {},
    }
    state = Shape(
        jnp.asarray(0.25),  # of weak type
        {"key": jax.random.key(3), "keys": jax.random.split(jax.random.key(1), 2)},
    )
    record = {"rows": [{"update": 1, "loss": float("nan")}], "kept_update": 3}
    snapshot = loop.Snapshot(5, params, state, params, record, {"next_index": 5})
    saver = Snapshots(tmp_path / "progress", "a")
    saver.save(snapshot)
    saver.wait()
    found = saver.restore(snapshot._replace(kept=None, record={}, position=None))
    assert jax.tree.structure(found[1:4]) == jax.tree.structure(snapshot[1:4])
    leaves = (jax.tree.leaves(trees[1:4]) for trees in (found, snapshot))
    for x, y in zip(*leaves, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert getattr(x, "weak_type", None) == getattr(y, "weak_type", None)
        assert (x.sharding, x.committed) == (y.sharding, y.committed)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert (found.update, found.position) == (5, {"next_index": 5})
    assert repr(found.record) == repr(record)


def test_the_arrays_may_be_donated_at_once(tmp_path):
    """They are copied before `save` returns, however long the writing takes."""
    double = jax.jit(lambda x: 2 * x + 1, donate_argnums=0)
    arrays = {str(i): jnp.full(2**20, float(i)) for i in range(4)}
    saver = Snapshots(tmp_path / "progress", "a")
    saver.save(loop.Snapshot(1, arrays, (), None, {}, None))
    arrays = {name: double(double(x)) for name, x in arrays.items()}
    saver.wait()
    found = saver.restore(loop.Snapshot(0, arrays, (), None, {}, None))
    for name, x in found.params.items():
        assert float(x.min()) == float(x.max()) == float(name)


def full_by_orbax(self, *args, **kwargs):
    raise ValueError(
        "RESOURCE_EXHAUSTED: … No space left on device [os_error_code='28']"
    )


def full_by_python(path, text):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.mark.parametrize(
    ("owner", "name", "fail"),
    [
        (checkpoint.ocp.StandardCheckpointer, "save", full_by_orbax),
        (checkpoint.ocp.StandardCheckpointer, "wait_until_finished", full_by_orbax),
        (checkpoint.pathlib.Path, "write_text", full_by_python),
    ],
)
def test_a_full_disk_is_named_and_the_earlier_one_stays(
    progress, whole, monkeypatch, owner, name, fail
):
    class Full(Snapshots):
        def save(self, snapshot):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fail)
                super().save(snapshot)
                self.wait()

    with pytest.raises(OSError, match="no room") as error:
        fit(Full(progress, "a", every=1))
    assert error.value.errno == errno.ENOSPC
    # 8·24 floats and 24 bfloat16: parameters, two moments, those kept; then a key, the
    # scale and two counts.
    size = 4 * (4 * 8 * 24 + 2 * 24) + 8 + 3 * 4
    for words in (str(progress / "0000000"), f"{size:,} bytes", "is intact"):
        assert words in str(error.value)
    assert names(progress) == ["000000006", "000000009"]
    assert_goes_on(progress, whole, after=9)


def test_by_time_it_waits_in_proportion_to_what_one_takes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(snapshots.time, "monotonic", lambda: now[0])
    saver = Snapshots(tmp_path, "a")
    due_after = lambda seconds: (now.__setitem__(0, now[0] + seconds), saver.due(1))[1]
    assert not due_after(59.0)
    assert due_after(1.5)
    saver._last, saver._cost = now[0], 3.0  # one takes three seconds: every 150 s
    assert not due_after(149.0)
    assert due_after(1.5)
    never = Snapshots(tmp_path, "a", every=0)
    assert not never.due(10**6)
    with pytest.raises(ValueError, match="every=-1"):
        Snapshots(tmp_path, "a", every=-1)
