"""One process of a job that loads a model, hands it back, and watches its own memory.

``python -m experiments.studies.loading_process`` with a `Task` as JSON prints JSON.
"""

import contextlib
import dataclasses
import json
import pathlib
import sys
import threading
import time
from collections.abc import Iterator

import jax
import numpy as np

from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.parallel import distributed, sharding

STATUS = pathlib.Path("/proc/self/status")
FIELDS = ("RssAnon", "RssFile")  # memory of its own; pages of files that it has mapped
_PAUSE = 0.002  # seconds between looks


@dataclasses.dataclass(frozen=True)
class Task:
    """What a process does."""

    folder: str  # the model
    mesh: str
    dtype: str
    export: str | None  # folder to hand it back to
    processes: int = 1
    process: int = 0
    coordinator: str | None = None


def memory() -> dict[str, int]:
    """Bytes that this process holds now, by kind, and the most it held: VmHWM."""
    lines = (line.split() for line in STATUS.read_text().splitlines())
    found = {words[0][:-1]: words[1] for words in lines if len(words) == 3}
    return {name: 1024 * int(found[name]) for name in (*FIELDS, "VmHWM")}


@contextlib.contextmanager
def watched() -> Iterator[dict[str, float]]:
    """What the body adds at most, in bytes, by kind; ``total`` by the kernel's own
    count, which misses no moment; and its seconds."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins here
    before, found = memory(), dict.fromkeys(FIELDS, 0.0)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_PAUSE):
            now = memory()
            for name in FIELDS:
                found[name] = max(found[name], now[name] - before[name])

    thread = threading.Thread(target=look)
    thread.start()
    start = time.perf_counter()
    try:
        yield found
        found["seconds"] = time.perf_counter() - start
    finally:
        ended.set()
        thread.join()
    start_bytes = sum(before[name] for name in FIELDS)
    found["total"] = memory()["VmHWM"] - start_bytes


def measure(task: Task) -> dict[str, dict[str, float]]:
    """Peaks of the load and of the export, and the bytes of this process's share."""
    if task.coordinator is not None:
        distributed.initialize(task.coordinator, task.processes, task.process)
    mesh = sharding.make_mesh(task.mesh)
    huggingface.load_config(task.folder)  # imports what it takes
    for device in jax.local_devices():
        jax.block_until_ready(jax.device_put(np.zeros(1), device))
    with watched() as load:
        config, params = huggingface.load_pretrained(task.folder, task.dtype, mesh)
    parts = [s for x in jax.tree.leaves(params) for s in x.addressable_shards]
    # CPU devices that hold the same slice may share its memory: counted once.
    places = {s.data.unsafe_buffer_pointer(): s.data.nbytes for s in parts}
    found = {"load": load | {"share": sum(places.values())}}
    if task.export is not None:
        with watched() as export:
            huggingface.save_pretrained(
                task.export, params, config, source=task.folder, card=""
            )
        found["export"] = export
    return found


if __name__ == "__main__":
    print(json.dumps(measure(Task(**json.loads(sys.argv[1])))))
