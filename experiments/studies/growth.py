"""How the time of an OFMU update grows: with the model, the batch, T, and devices.

``python -m experiments.benchmark growth`` times the update at a few sizes of each and
fits time = c · size^k, a line in logarithms: the exponent k with its standard error.
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from rich.table import Table

from experiments.shell import provenance
from experiments.shell.console import console
from experiments.stages.files import write_json
from experiments.studies import pictures
from experiments.studies.measuring import Case, measured
from experiments.studies.registries import language_ofmu, ofmu_case
from experiments.studies.shapes import Shape
from ofmu_jax.bounds import Count
from ofmu_jax.models.llama.model import LlamaConfig, init_params
from ofmu_jax.parallel import sharding
from ofmu_jax.training import placement

Axis = Literal["depth", "width", "batch", "steps", "length", "devices"]
DEVICES = (1, 2, 4, 8)
BASE = Shape(length=32, batch_size=4, scan_layers=True)


@dataclasses.dataclass(frozen=True)
class Growth:
    """Fitted exponents of an update's time."""

    axes: tuple[Axis, ...] = ("depth", "width", "batch", "steps", "length", "devices")
    """depth and width: over the number of parameters; batch: over rows; steps: over T;
    length: over tokens of a row; devices: as many simulated ones share this machine's
    cores, and the rows of one batch."""
    paper: bool = False
    """The paper's literal form, which takes minutes to compile; else the recipe that
    commands default to."""
    rounds: Count = 5
    output: pathlib.Path | None = None
    """Where all numbers are written as JSON, and a figure (.svg) beside it."""

    @property
    def recipe(self) -> str:
        """Its name among the methods."""
        return "ofmu, paper" if self.paper else "ofmu"


class Point(NamedTuple):
    """One size of one axis."""

    size: float
    shape: Shape
    config: LlamaConfig
    inner_steps: int | None = None


class Fit(NamedTuple):
    """ln time = intercept + exponent · ln size."""

    exponent: float
    standard_error: float
    intercept: float


def fitted(sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Least squares in logarithms, of three points or more.

    >>> fit = fitted([1, 2, 4], [3, 12, 48])
    >>> round(fit.exponent, 6), round(fit.standard_error, 6)
    (2.0, 0.0)
    """
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))
    apart = x - x.mean()
    slope = float(apart @ y / (apart @ apart))
    intercept = float(y.mean() - slope * x.mean())
    left = y - intercept - slope * x
    variance = float(left @ left) / (len(x) - 2) / float(apart @ apart)
    return Fit(slope, variance**0.5, intercept)


def points(axis: Axis) -> list[Point]:
    """The sizes of an axis, from the smallest."""
    base = BASE.config()
    if axis in ("depth", "width"):
        configs = (
            [dataclasses.replace(base, num_layers=n) for n in (1, 2, 4, 8)]
            if axis == "depth"
            else [_wide(base, n) for n in (48, 96, 192, 384)]
        )
        return [Point(parameters(c), BASE, c) for c in configs]
    if axis == "steps":
        return [Point(n, BASE, base, n) for n in (1, 2, 4, 8)]
    if axis == "devices":
        shape = dataclasses.replace(BASE, batch_size=8)
        return [Point(n, shape, base) for n in DEVICES]
    if axis == "batch":
        shapes = [dataclasses.replace(BASE, batch_size=n) for n in (2, 4, 8, 16, 32)]
        return [Point(shape.batch_size, shape, base) for shape in shapes]
    shapes = [dataclasses.replace(BASE, length=n) for n in (16, 32, 64, 128, 256)]
    return [Point(shape.length, shape, base) for shape in shapes]


def _wide(config: LlamaConfig, width: int) -> LlamaConfig:
    sizes = {"hidden_size": width, "intermediate_size": 3 * width}
    return dataclasses.replace(config, **sizes, head_dim=width // config.num_heads)


def parameters(config: LlamaConfig) -> int:
    """N, all of them."""
    made = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(made))


UNITS = {
    "depth": "parameters, by more layers",
    "width": "parameters, by wider layers",
    "batch": "rows",
    "steps": "T",
    "length": "tokens in a row",
    "devices": "simulated devices",
}


def run(config: Growth) -> dict[str, Any]:
    """Axis -> sizes, seconds, fit; written after every axis."""
    axes: dict[str, Any] = {}
    found = {**provenance.made("experiments.benchmark"), "config": config, "axes": axes}
    for axis in config.axes:
        known = points(axis)
        timed = _on_devices if axis == "devices" else seconds
        took = timed(axis, config.recipe, config.rounds)
        sizes = [point.size for point in known]
        axes[axis] = {
            "unit": UNITS[axis],
            "sizes": sizes,
            "seconds": took,
            **fitted(sizes, took)._asdict(),
        }
        if config.output is not None:
            write_json(config.output, found)
            pictures.write(config.output, pictures.growth(axes))
    return found


def seconds(axis: Axis, recipe: str, rounds: int) -> list[float]:
    """Median seconds of the update at each size, taken in turns."""
    cases = {str(point.size): _case(axis, recipe, point) for point in points(axis)}
    costs, _ = measured(cases, rounds)
    return [cost.seconds for cost in costs.values()]


def _case(axis: Axis, recipe: str, point: Point) -> Case:
    options = language_ofmu()[recipe]
    if point.inner_steps is not None:
        options = dataclasses.replace(options, inner_steps=point.inner_steps)
    case = ofmu_case(point.shape, point.config, options)
    if axis != "devices":
        return case
    count = int(point.size)
    mesh = sharding.make_mesh({"data": count}, jax.devices()[:count])
    rows = NamedSharding(mesh, PartitionSpec(None, "data"))
    return case._replace(
        method=placement.on_mesh(case.method, mesh),
        params=sharding.place(case.params, mesh),
        batches=jax.device_put(case.batches, rows),
    )


def _on_devices(axis: Axis, recipe: str, rounds: int) -> list[float]:
    """`seconds` in a process whose CPU is as many devices as the largest size."""
    flags = f"--xla_force_host_platform_device_count={max(DEVICES)}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    code = (
        "import json, sys; from experiments.studies import growth; "
        "print(json.dumps(growth.seconds(*json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([axis, recipe, rounds])],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1]
        raise ValueError(f"--axes devices: simulated devices do not run here: {why}")
    return json.loads(done.stdout.splitlines()[-1])


def table(axes: Mapping[str, Any]) -> Table:
    """The exponents, and the times that they are of."""
    rows = Table("axis", title="time = c · size^k")
    for column in ("k", "standard error", "sizes", "ms"):
        rows.add_column(column, justify="right")
    for name, x in axes.items():
        sizes = ", ".join(f"{size:.3g}" for size in x["sizes"])
        times = ", ".join(f"{1e3 * s:.1f}" for s in x["seconds"])
        numbers = (f"{x[key]:.2f}" for key in ("exponent", "standard_error"))
        rows.add_row(name, *numbers, sizes, times)
    return rows


def main(config: Growth) -> None:
    """Measures, writes and prints.

    Raises:
      ValueError: if there are no simulated devices to be had.
    """
    console.print(table(run(config)["axes"]))
    if config.output is not None:
        console.print(f"Written: {config.output}", highlight=False)
