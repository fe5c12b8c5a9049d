"""Snapshots of a run in progress on disk: the last two, and which of them can be used.

Each lies in a folder named by its update, written as `training.checkpoint` does: whole
or absent, with checksums, while the run goes on. Only arrays (Orbax) and JSON
are written and read.
"""

import concurrent.futures
import functools
import pathlib
import re
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax import _disk
from ofmu_jax._trees import name_of
from ofmu_jax.parallel.distributed import is_main, largest, on_main
from ofmu_jax.training import checkpoint
from ofmu_jax.training.checkpoint import CheckpointError
from ofmu_jax.training.loop import Snapshot

KEEP = 2  # should the last one be damaged, there is the one before
SECONDS = 60.0  # between snapshots by time, at least
COST = 0.02  # share of the time that snapshots by time may hold the run up, at most
FORMAT = 1


class _Foreign(CheckpointError):
    """A snapshot that is whole, and of another run."""


class Snapshots:
    """A `training.Saver` on disk.

    Args:
      folder: its own; what else lies there may be removed.
      identity: of everything the run is made from; a snapshot with another is not
        used.
      every: updates between snapshots. None: by time, once a minute, and less often
        where a snapshot takes long; 0: none.
      warn: is told of a snapshot that cannot be used; default: `warnings.warn`.

    Example::

        saver = Snapshots("out/progress", identity="lr=1e-5, seed=0", every=100)
        result = training.run(method, params, batches, num_updates=9999, saver=saver)
        ...  # store the result
        saver.clear()
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        identity: str,
        *,
        every: int | None = None,
        warn: Callable[[str], None] | None = None,
    ):
        if every is not None and every < 0:
            raise ValueError(
                f"every={every} is no number of updates; use 0 for no snapshots."
            )
        self.folder = pathlib.Path(folder).absolute()
        if every != 0:
            _disk.check_name(self.folder)
        self.identity, self.every = identity, every
        self._warn = warn or (lambda text: warnings.warn(text, stacklevel=2))
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._writing: concurrent.futures.Future[None] | None = None
        self._last, self._cost = time.monotonic(), 0.0

    def restore(self, like: Snapshot) -> Snapshot | None:
        """The newest snapshot that can be used; warns of newer ones.

        Those of other settings are removed. Damaged ones are set aside as
        ``<update>.unused`` until the run is done. Processes of one job call it
        together; the first judges what lies there, and moves it.
        """
        on_main(self._tidy)
        names = on_main(lambda: [path.name for path in self._found()])
        for path in (self.folder / name for name in reversed(names)):
            found = self._tried(path, like)
            if isinstance(found, Snapshot):
                return found
            self._warn(f"a snapshot of the interrupted run is not used: {found}")
            remove = isinstance(found, _Foreign)
            on_main(functools.partial(_set_aside, path, remove))
        if names:
            self._warn(f"no snapshot is left in {self.folder}; starting at update 0.")
        return None

    def due(self, update: int) -> bool:
        """True if it is time for one, by updates or by the clock."""
        if self.every is not None:
            return self.every > 0 and update % self.every == 0
        elapsed = time.monotonic() - self._last
        return elapsed >= max(SECONDS, self._cost / COST)

    def save(self, snapshot: Snapshot) -> None:
        """Copies the arrays; they are written while the run goes on.

        Raises:
          OSError: if there was no room for this one or the one before.
        """
        started = time.monotonic()
        self.wait()
        arrays = _arrays(snapshot)
        notes = {
            "format": FORMAT,
            "identity": self.identity,
            "update": snapshot.update,
            "record": snapshot.record,
            "position": snapshot.position,
            "kept": snapshot.kept is not None,
            "weak": [n for n, x in arrays.items() if getattr(x, "weak_type", False)],
            **self.extra_notes(),
        }
        plain = {name: _plain(x) for name, x in arrays.items()}
        path = self.folder / f"{snapshot.update:09}"
        complete = checkpoint.begin(path, plain, notes)
        self._writing = self._pool.submit(self._complete, complete)
        self._last = time.monotonic()
        self._cost = self._last - started

    def wait(self) -> None:
        """Waits for what is being written.

        Raises:
          OSError: if there was no room for it.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits for what is being written, whatever comes of it."""
        self._pool.shutdown()

    def clear(self) -> None:
        """Removes all snapshots: what the run gave has been stored elsewhere."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def extra_notes(self) -> dict[str, Any]:
        """More JSON values to write beside a snapshot, for a subclass."""
        return {}

    def take_notes(self, notes: Mapping[str, Any]) -> None:
        """What a snapshot that is gone on from was written with, for a subclass."""

    def _tried(self, path: pathlib.Path, like: Snapshot) -> Snapshot | CheckpointError:
        """A snapshot, or why it cannot be used: the same answer in all processes."""
        problem = self._refused(path) if jax.process_count() > 1 else None
        if problem is not None:
            return problem
        found: Snapshot | CheckpointError
        try:
            found = self._read(path, like)
        except CheckpointError as error:
            found = error
        if largest(isinstance(found, CheckpointError)) and isinstance(found, Snapshot):
            return CheckpointError(f"another process cannot use the one at {path}.")
        return found

    def _refused(self, path: pathlib.Path) -> CheckpointError | None:
        """What process 0 has against the files, before all read the arrays together.

        One that went on where another gave up would wait for it while reading.
        """

        def judged() -> list[Any]:
            try:
                self._check(path, checkpoint.read_notes(path))
            except CheckpointError as error:
                return [str(error), isinstance(error, _Foreign)]
            return []

        match on_main(judged):
            case [text, foreign]:
                return (_Foreign if foreign else CheckpointError)(text)
        return None

    def _check(self, path: pathlib.Path, notes: Mapping[str, Any]) -> None:
        """Raises `_Foreign` if the notes are not of this run."""
        if notes.get("format") != FORMAT or notes.get("identity") != self.identity:
            raise _Foreign(
                f"the checkpoint at {path} is of a run with other settings, data "
                "or program version."
            )

    def _read(self, path: pathlib.Path, like: Snapshot) -> Snapshot:
        wanted: dict[str, jax.Array] = {}

        def expected(notes: Mapping[str, Any]) -> Any:
            self._check(path, notes)
            kept = like.params if notes["kept"] else None
            wanted.update(_arrays(like._replace(kept=kept)))
            return {name: _plain(x) for name, x in wanted.items()}

        found, notes = checkpoint.read(path, expected)
        weak = set(notes["weak"])
        leaves = [_as(found[name], x, name in weak) for name, x in wanted.items()]
        kept = like.params if notes["kept"] else None
        structure = jax.tree.structure((like.params, like.state, kept))
        params, state, kept = jax.tree.unflatten(structure, leaves)
        self.take_notes(notes)
        record, position = notes["record"], notes["position"]
        return Snapshot(notes["update"], params, state, kept, record, position)

    def _complete(self, complete: Callable[[], None]) -> None:
        complete()
        for path in self._found()[:-KEEP] if is_main() else ():
            shutil.rmtree(path, ignore_errors=True)

    def _found(self) -> list[pathlib.Path]:
        """Snapshots by their update, the oldest first."""
        if not self.folder.is_dir():
            return []
        number = lambda path: re.fullmatch(r"\d+", path.name) and path.is_dir()
        paths = filter(number, self.folder.iterdir())
        return sorted(paths, key=lambda path: int(path.name))

    def _tidy(self) -> None:
        """Removes what a process left half written when it ended."""
        for pattern in ("*.new", "*.new.*", "*.old"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)


def _set_aside(path: pathlib.Path, remove: bool) -> None:
    """Moves a snapshot that is not used out of the way; or removes it."""
    aside = path.with_name(f"{path.name}.unused")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    if remove:
        shutil.rmtree(aside)


def _arrays(snapshot: Snapshot) -> dict[str, jax.Array]:
    """The arrays by names that are unique, whatever the trees look like."""
    trees = (snapshot.params, snapshot.state, snapshot.kept)
    leaves = jax.tree.leaves_with_path(trees)
    return {
        f"{number}.{re.sub(r'[^A-Za-z0-9_.]', '_', name_of(path[1:], '.'))}": (
            x if isinstance(x, jax.Array) else jnp.asarray(x)
        )
        for number, (path, x) in enumerate(leaves)
    }


def _plain(x: jax.Array) -> jax.Array:
    """Random keys as the integers they are made of."""
    return jax.random.key_data(x) if _is_key(x) else x


def _as(found: jax.Array, like: jax.Array, weak: bool) -> jax.Array:
    """What was read, as the run had it: keys, weak types, bound to a device or not."""
    if weak and found.ndim == 0:  # a Python number does not widen other arrays
        return jnp.asarray(found.item())
    if not like.committed:
        found = jnp.array(np.asarray(found))
    if _is_key(like):
        return jax.random.wrap_key_data(found, impl=jax.random.key_impl(like))
    return found


def _is_key(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
