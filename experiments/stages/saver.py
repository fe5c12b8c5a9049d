"""Training stages that go on in the middle, from snapshots in their folder."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from rich.markup import escape

from experiments.shell import compiled, console, signals
from experiments.shell.compiled import NOTHING, Spent
from experiments.stages.stage import Stage
from ofmu_jax.training.loop import Snapshot
from ofmu_jax.training.snapshots import Snapshots


class StageSaver(Snapshots):
    """Snapshots of a stage: also when a signal comes; they know the time it took."""

    def __init__(self, stage: Stage, every: int | None):
        self.stage_folder = stage.folder
        if jax.process_count() > 1:
            every = 0  # by the clock, or of one process alone, they would disagree
        super().__init__(
            stage.progress,
            stage.fingerprint,
            every=every,
            warn=console.warning,
        )
        self.aside: Callable[[], Spent] = lambda: NOTHING  # what does not count
        self._before = NOTHING  # until the snapshot that the run goes on from
        self._held_up, self._started = NOTHING, compiled.clock()

    @property
    def spent(self) -> Spent:
        """The run's own time, over all processes that had a part in it."""
        since = compiled.clock().since(self._started)
        return self._before.plus(since).since(self._held_up).since(self.aside())

    def restore(self, like: Snapshot) -> Snapshot | None:
        """As `Snapshots`; says where the stage goes on."""
        found = super().restore(like)
        if found is not None:
            _note(f"{self.stage_folder}: going on after update {found.update}.")
        return found

    def due(self, update: int) -> bool:
        """True also if a signal has come, to any process of the job."""
        return signals.requested() or super().due(update)

    def save(self, snapshot: Snapshot) -> None:
        """As `Snapshots`; then raises `signals.Interrupted` if a signal has come."""
        started = compiled.clock()
        if self.every != 0:
            super().save(snapshot)
        if signals.requested():
            self.wait()
        self._held_up = self._held_up.plus(compiled.clock().since(started))
        signals.stop()

    def extra_notes(self) -> dict[str, Any]:
        return self.spent._asdict()

    def take_notes(self, notes: Mapping[str, Any]) -> None:
        # Older snapshots do not tell what went into compiling.
        self._before = Spent(notes["seconds"], notes.get("compiling", 0.0))


@contextlib.contextmanager
def resumable(stage: Stage, every: int | None) -> Iterator[StageSaver]:
    """Begins a stage, or goes on with it; its body must finish the stage.

    Signals wait for the end of an update, or of the body. The snapshots are removed
    once the stage is finished, and kept whatever else happens.

    Args:
      every: updates between snapshots; None: by time; 0: none.
    """
    with signals.deferred():
        stage.begin()
        saver = StageSaver(stage, every)
        try:
            yield saver
        finally:
            saver.close()
        stage.tidy()


def _note(text: str) -> None:
    console.aside.print(escape(text), highlight=False)
