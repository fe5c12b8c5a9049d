"""What the pieces of OFMU cost, in units of one step of gradient ascent.

``python -m experiments.benchmark`` compiles each piece for a Llama and prints the
gradients it is counted as, its median wall time and its temporary memory by XLA's own
analysis, each divided by that of gradient ascent in the same rounds.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
from rich.table import Table

from experiments.shell.console import console
from experiments.studies.pieces import pieces
from experiments.studies.shapes import Shape, start, token_batches


class Cost(NamedTuple):
    """What one update costs."""

    counted: float  # gradient evaluations
    updates: int  # optimizer steps in it
    compiled: float  # seconds that XLA took
    seconds: float  # wall, median
    memory: int  # bytes, temporary, by XLA's own analysis


def measure(shape: Shape, names: Sequence[str] = ()) -> dict[str, Cost]:
    """Piece -> its counted and measured cost; ``names`` chooses among `pieces`."""
    config = shape.config()
    params = start(config)
    found = pieces(shape)
    found = {name: found[name] for name in names or found}
    runs: dict[str, Callable] = {}
    compiled: dict[str, float] = {}
    memory: dict[str, int] = {}
    for name, method in found.items():
        batches = token_batches(shape, config, method.batches_per_update)
        state = method.init(params)
        begun = time.perf_counter()
        program = jax.jit(method.update).lower(params, state, batches).compile()
        compiled[name] = time.perf_counter() - begun
        analysis = program.memory_analysis()
        assert analysis is not None  # every backend of JAX has it
        memory[name] = analysis.temp_size_in_bytes
        runs[name] = functools.partial(program, params, state, batches)
    times = interleaved(runs, shape.rounds)
    return {
        name: Cost(
            method.gradient_evaluations,
            method.parameter_updates,
            compiled[name],
            statistics.median(times[name]),
            memory[name],
        )
        for name, method in found.items()
    }


def interleaved(runs: Mapping[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, once a round, so that a busy moment meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name in runs:
        jax.block_until_ready(runs[name]())  # the first call pays for more than itself
    for _ in range(rounds):
        for name, call in runs.items():
            begun = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - begun)
    return times


def table(shape: Shape, found: Mapping[str, Cost]) -> Table:
    """The costs as multiples of the first piece's."""
    unit = next(iter(found.values()))
    title = (
        f"{shape.model}, {shape.dtype}: {unit.seconds * 1e3:.1f} ms a gradient ascent"
    )
    rows = Table("one update of", title=title)
    for column in ("counted", "time", "time per optimizer step", "temporary memory"):
        rows.add_column(column, justify="right")
    rows.add_column("compiled, s", justify="right")
    for name, x in found.items():
        time_ = x.seconds / unit.seconds
        values = time_, time_ / x.updates, x.memory / unit.memory, x.compiled
        rows.add_row(name, f"{x.counted:.0f}", *(f"{value:.1f}" for value in values))
    return rows


def main(shape: Shape) -> None:
    """Prints the table."""
    console.print(table(shape, measure(shape)))
