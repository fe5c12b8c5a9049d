"""What the pieces of OFMU cost, in units of one step of gradient ascent.

``python -m experiments.benchmark`` compiles each piece for a small Llama and prints
the gradients it is counted as, its median wall time and its temporary memory by
XLA's own analysis, each divided by that of gradient ascent in the same rounds.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.table import Table

from ofmu_jax import methods
from ofmu_jax.choices import Curvature, PenaltyGradient
from ofmu_jax.losses import likelihood
from ofmu_jax.methods import Method
from ofmu_jax.models.llama.model import Llama, LlamaConfig, init_params


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Cost of one update of each method and option."""

    hidden_size: int = 96
    num_layers: int = 2
    vocab_size: int = 1024
    length: int = 64
    batch_size: int = 8
    inner_steps: int = 5
    rounds: int = 9
    """Every piece is timed once a round; the median over rounds counts."""


def pieces(config: Benchmark, apply_fn) -> dict[str, Method]:
    """The methods that are compared, gradient ascent first."""
    loss = functools.partial(likelihood.cross_entropy, apply_fn)
    ascent = lambda params, batch: -loss(params, batch)
    optimizer = optax.sgd(1e-3)

    def ofmu(curvature: Curvature, penalty: PenaltyGradient, **options) -> Method:
        return methods.ofmu_method(
            loss,
            loss,
            outer_optimizer=optimizer,
            inner_optimizer=optimizer,
            inner_steps=config.inner_steps,
            curvature=curvature,
            penalty_gradient=penalty,
            **options,
        )

    name, differences = f"OFMU, T = {config.inner_steps}", "finite_difference"
    frozen = functools.partial(ofmu, retain_direction="frozen")
    return {
        "gradient ascent": methods.gradient_ascent(ascent, optimizer),
        "GradDiff": methods.weighted_difference(ascent, loss, optimizer),
        f"{name}: exact": ofmu("vjp", "exact"),
        f"{name}: linearize, exact penalty": ofmu("linearize", "exact"),
        f"{name}: finite differences": ofmu(differences, differences),
        f"{name}: linearize, secant": ofmu("linearize", "secant"),
        f"{name}: frozen direction, linearize, secant": frozen("linearize", "secant"),
        f"{name}: frozen direction, differences, secant": frozen(differences, "secant"),
        f"{name}: no similarity, no penalty": ofmu("vjp", "exact", beta=0.0, rho=0.0),
    }


class Cost(NamedTuple):
    """What one update costs, relative to gradient ascent."""

    counted: float  # gradient evaluations
    updates: int  # optimizer steps in it
    time: float  # wall, median
    memory: float  # temporary, by XLA's own analysis


def measure(config: Benchmark) -> dict[str, Cost]:
    """Piece -> its counted and measured cost relative to gradient ascent."""
    model = Llama(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=3 * config.hidden_size,
            num_layers=config.num_layers,
            num_heads=4,
            num_kv_heads=2,
            head_dim=config.hidden_size // 4,
        )
    )
    params = init_params(model.config, jax.random.key(0))
    apply_fn = lambda p, ids, mask: model.apply({"params": p}, ids, mask)
    found = pieces(config, apply_fn)
    runs: dict[str, Callable] = {}
    memory: dict[str, int] = {}
    for name, method in found.items():
        batches = _batches(config, method.batches_per_update)
        state = method.init(params)
        compiled = jax.jit(method.update).lower(params, state, batches).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None  # every backend of JAX has it
        memory[name] = analysis.temp_size_in_bytes
        runs[name] = functools.partial(compiled, params, state, batches)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(config.rounds):
        for name, call in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    time_of = {name: statistics.median(times[name]) for name in runs}
    unit = next(iter(runs))
    return {
        name: Cost(
            method.gradient_evaluations,
            method.parameter_updates,
            time_of[name] / time_of[unit],
            memory[name] / memory[unit],
        )
        for name, method in found.items()
    }


def _batches(config: Benchmark, count: int) -> dict:
    rng = np.random.default_rng(0)

    def batch():
        shape = (count, config.batch_size, config.length)
        ids = rng.integers(config.vocab_size, size=shape, dtype=np.int32)
        return {"input_ids": ids, "labels": ids, "attention_mask": np.ones_like(ids)}

    return {"forget": batch(), "retain": batch()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    program = "python -m experiments.benchmark"
    options = tyro.cli(Benchmark, prog=program, description=__doc__, args=arguments)
    found = measure(options)
    table = Table("one update of", title="Cost in units of one gradient ascent step")
    for column in ("counted", "time", "time per optimizer step", "temporary memory"):
        table.add_column(column, justify="right")
    for name, x in found.items():
        values = x.time, x.time / x.updates, x.memory
        table.add_row(name, f"{x.counted:.0f}", *(f"{value:.1f}" for value in values))
    Console().print(table)
    return 0
