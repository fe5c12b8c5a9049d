"""The numbers of every update: JSON lines for programs, event files for TensorBoard,
and whatever trackers a run asks for."""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from experiments.stages.files import finite
from experiments.stages.trackers.registry import NOBODY, Told
from ofmu_jax import _disk
from ofmu_jax.parallel.distributed import is_main


class MetricsLog:
    """Writes ``metrics.jsonl`` and event files into a folder, in process 0 alone."""

    def __init__(self, folder: pathlib.Path, told: Told = NOBODY):
        self._writes, self._told = is_main(), told
        if not self._writes:
            return
        self._path = folder / "metrics.jsonl"
        with _disk.writing("the log", self._path):
            self._lines = self._path.open("w", buffering=1)
            # Not its SummaryWriter: where the thread of that meets a full disk, it
            # dies, and what waits for it waits for ever.
            (folder / "events").mkdir(exist_ok=True)
            self._events = EventsWriter(str(folder / "events" / "events"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one row; values that are not finite are null in the JSON lines."""
        if not self._writes:
            return
        row = finite(values)
        with _disk.writing("the log", self._path):
            self._lines.write(json.dumps({"update": step, **row}) + "\n")
            for name, value in row.items():
                if value is not None:
                    self._events.write_event(_event(step, name, value))
        self._told.log(step, row)

    def close(self) -> None:
        """Flushes both."""
        if self._writes:
            with _disk.writing("the log", self._path):
                self._lines.close()
                self._events.close()


def _event(step: int, name: str, value: float) -> Any:
    kind: Any = event_pb2
    return kind.Event(wall_time=time.time(), step=step, summary=scalar(name, value))
