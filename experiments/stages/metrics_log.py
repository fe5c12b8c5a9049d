"""The numbers of every update: JSON lines for programs, event files for TensorBoard."""

import json
import pathlib
from collections.abc import Mapping

import tensorboardX

from experiments.stages.files import finite
from ofmu_jax.parallel.distributed import is_main


class MetricsLog:
    """Writes ``metrics.jsonl`` and event files into a folder, in process 0 alone."""

    def __init__(self, folder: pathlib.Path):
        self._writes = is_main()
        if not self._writes:
            return
        self._lines = (folder / "metrics.jsonl").open("w", buffering=1)
        self._events = tensorboardX.SummaryWriter(str(folder / "events"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one row; values that are not finite are null in the JSON lines."""
        if not self._writes:
            return
        row = finite(values)
        self._lines.write(json.dumps({"update": step, **row}) + "\n")
        for name, value in row.items():
            if value is not None:
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both."""
        if self._writes:
            self._lines.close()
            self._events.close()
