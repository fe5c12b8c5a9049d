"""What the host holds while a model is loaded, and while it is written again.

A folder with random weights of an architecture is made, loaded onto simulated devices
of one process, of two, …, and handed back. Each process watches its memory: RssAnon is
its own, with all that is on its CPU devices; RssFile are pages of mapped files, which
the system takes back at will; the total is the kernel's own highest count.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
from typing import Any, Literal

import numpy as np
from rich.table import Table

from experiments.planning.architectures import architecture
from experiments.shell.console import console
from experiments.stages.files import write_json
from experiments.studies.loading_process import STATUS, Task
from ofmu_jax.bounds import Count
from ofmu_jax.models import tensor_writer
from ofmu_jax.models.huggingface import fresh, weights
from ofmu_jax.models.huggingface.config import config_to_hf
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.tensor_files import DTYPES


@dataclasses.dataclass(frozen=True)
class Loading:
    """Memory of the host in a load and an export of random weights, by processes."""

    model: str = "llama-3.2-1b"
    """A name that experiments.plan knows, a folder or a config.json."""
    processes: tuple[int, ...] = (1, 2)
    """Of the jobs that are measured, which share the devices evenly."""
    devices: Count = 8
    """Simulated, in all."""
    mesh: str = "fsdp=-1"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the parameters; a run keeps float32."""
    export: bool = True
    folder: pathlib.Path | None = None
    """Where random weights and exports are written, and removed again; default: the
    folder of temporary files."""
    output: pathlib.Path | None = None
    """Where to write all numbers as JSON."""


def run(config: Loading) -> list[dict[str, Any]]:
    """Per process of each job: its number, and what `loading_process.measure` found.

    Raises:
      ValueError: a number of processes that does not divide the devices, or a system
        that does not say what a process holds.
    """
    for count in config.processes:
        if count < 1 or config.devices % count:
            raise ValueError(
                f"--processes {count} do not share --devices {config.devices} evenly; "
                "give numbers that divide it."
            )
    if not STATUS.is_file():
        raise ValueError(
            f"memory is read from {STATUS}, which this system lacks; measure on Linux."
        )
    found = []
    with tempfile.TemporaryDirectory(dir=config.folder) as place:
        given = pathlib.Path(place) / "given"
        write_random(given, architecture(config.model))
        for count in config.processes:
            found += job(config, given, pathlib.Path(place) / "handed_back", count)
    return found


def write_random(folder: pathlib.Path, config: LlamaConfig) -> None:
    """A model folder with random bfloat16 weights, several files where it is large."""
    folder.mkdir()
    fresh.write_texts(folder, config_to_hf(config), None)
    kind = np.dtype(DTYPES["BF16"])
    entries = {
        name: tensor_writer.Entry(kind, shape)
        for name, shape in weights.tensor_shapes(config)
    }
    rng = np.random.default_rng(0)

    def tensor_of(name: str) -> np.ndarray:
        bits = rng.integers(0, 2**16, entries[name].shape, np.uint16)
        return (bits & 0x807F | 0x3C00).view(kind)  # ± 2⁻⁷ (1 … 2)

    tensor_writer.write_shards(folder, entries, tensor_of, 10**9)


def job(
    config: Loading, given: pathlib.Path, out: pathlib.Path, count: int
) -> list[dict[str, Any]]:
    """What each of the processes of a job found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    task = Task(
        str(given),
        config.mesh,
        config.dtype,
        str(out) if config.export else None,
        count,
        coordinator=address if count > 1 else None,
    )
    module = [sys.executable, "-m", "experiments.studies.loading_process"]
    local = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": config.devices // count}
    started = []
    for process in range(count):
        text = json.dumps(dataclasses.asdict(task) | {"process": process})
        environment = os.environ | {name: str(value) for name, value in local.items()}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*module, text]
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    found = []
    try:
        for process, running in enumerate(started):
            said, problem = running.communicate()
            if running.returncode:
                raise RuntimeError(problem.strip().splitlines()[-1])
            measured = json.loads(said.splitlines()[-1])
            found.append({"processes": count, "process": process, **measured})
    finally:
        for running in started:
            running.kill()
        shutil.rmtree(out, ignore_errors=True)
    return found


def table(config: Loading, found: list[dict[str, Any]]) -> Table:
    """What `run` found, for people."""
    title = f"{config.model} in bfloat16 files, {config.dtype} on {config.devices} "
    shown = Table("GB", title=title + f"devices, {config.mesh}")
    heads = ("share", "load: own", "own / share", "files' pages", "total", "s")
    for head in (*heads, "export adds: own", "total", "s"):
        shown.add_column(head, justify="right")
    giga = lambda x: f"{x / 1e9:.2f}"
    for row in found:
        load, export = row["load"], row.get("export")
        cells = [giga(load["share"]), giga(load["RssAnon"])]
        cells += [f"{load['RssAnon'] / load['share']:.3f}", giga(load["RssFile"])]
        cells += [giga(load["total"]), f"{load['seconds']:.0f}"]
        if export:
            cells += [giga(export[name]) for name in ("RssAnon", "total")]
            cells += [f"{export['seconds']:.0f}"]
        shown.add_row(f"process {row['process']} of {row['processes']}", *cells)
    return shown


def main(config: Loading) -> None:
    """Measures, writes and prints."""
    found = run(config)
    if config.output is not None:
        write_json(config.output, {"config": config, "processes": found})
    console.print(table(config, found))
