"""Checkpoints: what was saved comes back bit for bit, or an error says why not."""

import errno
import json
import os
import pathlib
import shutil
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ofmu_jax.training import checkpoint
from ofmu_jax.training.checkpoint import CheckpointError, restore, save

# Every bit pattern of bfloat16 that is a number, and values float32 cannot spare.
PARAMS = {
    "embed": jnp.arange(2**15 - 2**7, dtype=jnp.uint16).view(jnp.bfloat16),
    "layers": {
        "kernel": jnp.asarray([[1 / 3, -0.0, 1e-45], [np.inf, np.pi, 3e38]]),
        "count": jnp.asarray(7, jnp.int32),
    },
}
LIKE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)


def assert_bit_equal(found, expected):
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "checkpoint"
    save(folder, PARAMS)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    """A checkpoint to damage."""
    return pathlib.Path(shutil.copytree(written, tmp_path / "copy"))


def test_bit_equal(written):
    assert_bit_equal(restore(written, LIKE), PARAMS)
    assert_bit_equal(restore(str(written), PARAMS), PARAMS)


def test_relative_path(written, monkeypatch):
    monkeypatch.chdir(written.parent)
    assert_bit_equal(restore("checkpoint", LIKE), PARAMS)


def test_sharding_is_that_of_like(written):
    mesh = jax.make_mesh((2,), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    like = {**LIKE, "embed": jax.device_put(PARAMS["embed"], split)}
    found = restore(written, like)
    assert_bit_equal(found, PARAMS)
    assert found["embed"].sharding == split
    assert found["layers"]["kernel"].sharding.device_set == {jax.devices()[0]}


def test_sharded_arrays_are_saved_whole(tmp_path):
    mesh = jax.make_mesh((4,), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = {**PARAMS, "embed": jax.device_put(PARAMS["embed"], split)}
    save(tmp_path / "sharded", params)
    assert_bit_equal(restore(tmp_path / "sharded", LIKE), PARAMS)


def test_named_tuples_and_lists(tmp_path):
    class State(NamedTuple):
        step: jax.Array
        moments: list

    state = State(jnp.asarray(3), [jnp.ones(2), {"w": jnp.zeros((1, 2))}])
    save(tmp_path / "state", state)
    found = restore(tmp_path / "state", state)
    assert isinstance(found, State)
    assert_bit_equal(found, state)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path}/none"):
        restore(tmp_path / "none", LIKE)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path}/file"):
        restore(tmp_path / "file", LIKE)


def with_kernel(shape, dtype):
    kernel = jax.ShapeDtypeStruct(shape, dtype)
    return {**LIKE, "layers": {**LIKE["layers"], "kernel": kernel}}


@pytest.mark.parametrize(
    ("like", "words"),
    [
        (with_kernel((2, 4), "float32"), r"float32\(2, 3\), expected float32\(2, 4\)"),
        (with_kernel((2, 2), "float32"), r"float32\(2, 3\), expected float32\(2, 2\)"),
        (with_kernel((6,), "float32"), r"float32\(2, 3\), expected float32\(6,\)"),
        (with_kernel((2, 3), "bfloat16"), "expected bfloat16"),
        ({"embed": LIKE["embed"]}, r"layers.count is int32\(\), expected absent"),
        ({**LIKE, "lm_head": LIKE["embed"]}, "lm_head is absent, expected bfloat16"),
        ({}, "expected absent"),
    ],
)
def test_other_model_is_named(written, like, words):
    with pytest.raises(CheckpointError, match=words) as error:
        restore(written, like)
    assert str(written) in str(error.value)
    assert "another model" in str(error.value)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def flip_last_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_last_bit, os.remove])
def test_any_damaged_file_is_an_error(copy, damage):
    for file in files(copy):
        content = file.read_bytes()
        if not content:
            continue
        damage(file)
        with pytest.raises(CheckpointError, match="is damaged") as error:
            restore(copy, LIKE)
        assert f"remove the folder {copy} and run again" in str(error.value)
        file.write_bytes(content)
    assert_bit_equal(restore(copy, LIKE), PARAMS)  # the damage was all there was


def test_empty_folder_and_no_checkpoint_inside(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"its sha256\.json cannot"):
        restore(tmp_path / "empty", LIKE)
    for file in files(copy):
        file.unlink()
    (copy / checkpoint.SUMS).write_text("{}")  # agrees with what is there: nothing
    with pytest.raises(CheckpointError, match=str(copy)):
        restore(copy, LIKE)
    (copy / checkpoint.SUMS).write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match="is damaged"):
        restore(copy, LIKE)


OTHER = jax.tree.map(lambda x: x + x.dtype.type(1), PARAMS)


def test_overwriting_leaves_only_the_new_one(copy):
    save(copy, OTHER)
    assert_bit_equal(restore(copy, LIKE), OTHER)
    save(copy, PARAMS)
    assert_bit_equal(restore(copy, LIKE), PARAMS)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    "where", ["_sums", "StandardCheckpointer.save", "first rename", "second rename"]
)
def test_interrupted_save_leaves_the_last_good_one(copy, monkeypatch, where):
    """Cut off while writing, before, or between the renames; then again in full."""
    renames = []

    def interrupt(*args, **kwargs):
        # what Orbax leaves when the process ends while it writes
        copy.with_name("copy.new.orbax-checkpoint-tmp").mkdir(exist_ok=True)
        raise Interrupted

    def rename(path, target, rename=pathlib.Path.rename):
        renames.append(path)
        if len(renames) == {"first rename": 1, "second rename": 2}[where]:
            raise Interrupted
        return rename(path, target)

    with monkeypatch.context() as patch:
        if where == "_sums":
            patch.setattr(checkpoint, "_sums", interrupt)
        elif where == "StandardCheckpointer.save":
            patch.setattr(checkpoint.ocp.StandardCheckpointer, "save", interrupt)
        else:
            patch.setattr(checkpoint.pathlib.Path, "rename", rename)
        with pytest.raises(Interrupted):
            save(copy, OTHER)
    assert_bit_equal(restore(copy, LIKE), PARAMS)
    save(copy, OTHER)
    assert_bit_equal(restore(copy, LIKE), OTHER)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_first_save_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(path):
        raise Interrupted

    monkeypatch.setattr(checkpoint, "_sums", interrupt)
    with pytest.raises(Interrupted):
        save(tmp_path / "new", PARAMS)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        restore(tmp_path / "new", LIKE)


def test_all_is_on_the_disk_before_it_takes_its_place(copy, monkeypatch):
    """Every file and folder once, then the renames, then the names beside it."""
    done = []

    def rename(path, target, rename=pathlib.Path.rename):
        done.append(("rename", target.name))
        return rename(path, target)

    real = checkpoint.sync
    monkeypatch.setattr(
        checkpoint, "sync", lambda path: (done.append(("sync", path)), real(path))
    )
    monkeypatch.setattr(checkpoint.pathlib.Path, "rename", rename)
    save(copy, OTHER)
    names = [step for step, _ in done]
    first = names.index("rename")
    written = {path.relative_to(copy.with_name("copy.new")) for _, path in done[:first]}
    there = {path.relative_to(copy) for path in (copy, *copy.rglob("*"))}
    assert written == there and first == len(there)
    assert done[first:] == [
        ("rename", "copy.old"),
        ("rename", "copy"),
        ("sync", copy.parent),
        ("sync", copy.parent.parent),
    ]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_sync_is_taken(tmp_path, monkeypatch, number):
    def fails(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint.os, "fsync", fails)
    if number == errno.EINVAL:
        checkpoint.sync(tmp_path)
        return
    with pytest.raises(OSError, match="error"):  # a broken disk
        checkpoint.sync(tmp_path)
