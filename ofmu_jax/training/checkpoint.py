"""Parameters on disk, through Orbax: whole or absent, and checked when read.

Orbax alone deletes the old checkpoint before it writes the new one, reads a lost
chunk as zeros, and casts, pads or cuts an array to what is asked for. Here a finished
folder takes the old one's place by renaming, a list of SHA-256 sums lies in it, and
names, shapes and dtypes must be those of the model.
"""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ofmu_jax import _disk
from ofmu_jax._trees import named
from ofmu_jax.parallel.distributed import on_main

Params = Any
SUMS = "sha256.json"  # file name -> SHA-256 of all other files
NOTES = "notes.json"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another model."""


def save(
    folder: str | pathlib.Path,
    params: Params,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Writes a pytree; interrupted at any time, `restore` finds the one before.

    When it returns all of it is on the disk: a reboot may follow. Processes of one job
    call it together, with one folder that all of them see.

    >>> import jax.numpy as jnp, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "checkpoint"
    >>> save(folder, {"w": jnp.arange(3.0)})
    >>> print(restore(folder, {"w": jnp.zeros(3)})["w"])
    [0. 1. 2.]

    Raises:
      OSError: if there is no room; the message names the folder and the bytes needed.
    """
    begin(folder, params, notes)()


def begin(
    folder: str | pathlib.Path,
    params: Params,
    notes: Mapping[str, Any] | None = None,
) -> Callable[[], None]:
    """Starts a `save` and returns what completes it, to be called in any thread.

    The arrays are copied when this returns, so that a step may take their memory.

    Args:
      notes: JSON values that lie beside the arrays, for `read`.

    Raises:
      OSError: as `save`; so does the returned function.
      ValueError: if Orbax would read the path as a pattern.
    """
    path = pathlib.Path(folder).absolute()
    _disk.check_name(path)
    fresh, old = _beside(path)
    on_main(lambda: _remove_unfinished(path))
    text = json.dumps(dict(notes or {}), default=float)
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(params))
    checkpointer = ocp.StandardCheckpointer()
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).addFilter(_is_news)
    with _room_for(path, size, checkpointer):
        checkpointer.save(fresh, params)

    def write() -> None:
        (fresh / NOTES).write_text(text)
        (fresh / SUMS).write_text(json.dumps(_sums(fresh), indent=1) + "\n")
        sync_tree(fresh)

    def take_place() -> None:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        fresh.rename(path)
        for folder in path.parents[:2]:  # the first may be new
            sync(folder)  # before the old one goes, or a reboot may leave neither
        shutil.rmtree(old, ignore_errors=True)

    def complete() -> None:
        with _room_for(path, size, checkpointer):
            checkpointer.wait_until_finished()
            on_main(write)
        checkpointer.close()
        on_main(take_place)

    return complete


def restore(folder: str | pathlib.Path, like: Params) -> Params:
    """Reads a pytree with the structure, shapes and dtypes of ``like``.

    Args:
      folder: what `save` wrote.
      like: arrays or `jax.ShapeDtypeStruct`; a leaf without a sharding is placed on
        the first device, wherever it lay when it was written.

    Raises:
      CheckpointError: if the folder is absent, damaged, or of another model.
    """
    return read(folder, lambda notes: like)[0]


def read(
    folder: str | pathlib.Path, like: Callable[[dict[str, Any]], Params]
) -> tuple[Params, dict[str, Any]]:
    """Reads a pytree and its notes; ``like`` makes from the notes what to expect.

    Raises:
      CheckpointError: as `restore`.
    """
    path, notes = _checked(folder)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=getattr(x, "sharding", None) or device
        ),
        like(notes),
    )
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            _check_arrays(path, checkpointer.metadata(path), abstract)
            return checkpointer.restore(path, abstract), notes
    except CheckpointError:
        raise
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint at {path} cannot be read: {error}"
        ) from error


def read_notes(folder: str | pathlib.Path) -> dict[str, Any]:
    """The notes alone, of a checkpoint whose files are as they were written.

    Raises:
      CheckpointError: if the folder is absent or damaged.
    """
    return _checked(folder)[1]


def sync(path: pathlib.Path) -> None:
    """Waits until a file's bytes, or a folder's list of names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise  # those two: a file system that cannot
    finally:
        os.close(handle)


def sync_tree(folder: pathlib.Path) -> None:
    """`sync` for everything in a folder, and for the folder (or for one file)."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.is_file():  # no broken link, no socket
            sync(path)
    sync(folder)


def _beside(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Where a new checkpoint is written, and where the old one waits meanwhile."""
    return path.with_name(path.name + ".new"), path.with_name(path.name + ".old")


def _remove_unfinished(path: pathlib.Path) -> None:
    fresh, _ = _beside(path)
    for leftover in (fresh, *path.parent.glob(f"{fresh.name}.orbax-checkpoint-tmp*")):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _room_for(
    path: pathlib.Path, size: int, checkpointer: ocp.StandardCheckpointer
) -> Iterator[None]:
    """Tidies up after a write that failed; a full disk gets a message of its own."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):
            checkpointer.close()
        number = _disk.code(error)
        if number is None:
            raise
        full = _disk.full("the checkpoint", path, number, size)  # what is free now
        _remove_unfinished(path)
        raise full from error


def _is_news(record: logging.LogRecord) -> bool:
    """False for a full disk: Orbax and asyncio would log a traceback for each file,
    beside the error that is raised."""
    return not (record.exc_info and _disk.code(record.exc_info[1]))


def _json(file: pathlib.Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint at {file.parent} is damaged: its {file.name} cannot be "
            f"read as a JSON object ({error}); {_remedy(file.parent)}"
        ) from error


def _sums(path: pathlib.Path) -> dict[str, str]:
    sums = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_file() and name != SUMS:
            with file.open("rb") as stream:
                sums[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums


def _checked(folder: str | pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]]:
    """Where a whole checkpoint lies, and its notes."""
    path = pathlib.Path(folder).absolute()
    if not path.is_dir() and _beside(path)[1].is_dir():
        path = _beside(path)[1]  # a save ended between its two renames
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint at {path}.")
    written, found = _json(path / SUMS), _sums(path)
    if found != written:
        names = sorted(set(found.items()) ^ set(written.items()))
        raise CheckpointError(
            f"the checkpoint at {path} is damaged: {names[0][0]} is not as it was "
            f"written; {_remedy(path)}"
        )
    notes = path / NOTES  # there were none in older checkpoints
    return path, _json(notes) if notes.exists() else {}


def _remedy(path: pathlib.Path) -> str:
    """What makes a run write a checkpoint anew: its absence (`stages.stage`)."""
    return f"remove the folder {path} and run again, or copy it again."


def _check_arrays(path: pathlib.Path, metadata: Any, abstract: Params) -> None:
    tree = getattr(metadata, "item_metadata", metadata)
    found, wanted = _arrays(getattr(tree, "tree", tree)), _arrays(abstract)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise CheckpointError(
                f"the checkpoint at {path} is of another model: {name} is "
                f"{found.get(name, 'absent')}, expected {wanted.get(name, 'absent')}."
            )


def _arrays(tree: Any) -> dict[str, str]:
    """Name to 'dtype(shape)'."""
    say = lambda leaf: f"{np.dtype(leaf.dtype)}{tuple(leaf.shape)}"
    return {name: say(leaf) for name, leaf in named(tree).items()}
