"""What the pieces of OFMU cost, in units of one step of gradient ascent.

``python -m experiments.benchmark`` compiles each piece for a Llama and prints the
gradients it is counted as, its median wall time and its temporary memory by XLA's own
analysis, each divided by that of gradient ascent in the same rounds.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import jax
import numpy as np
import optax
from rich.table import Table

from experiments.planning.architectures import architecture
from experiments.shell.console import console
from ofmu_jax import methods
from ofmu_jax.bounds import Bound, Count
from ofmu_jax.choices import Curvature, PenaltyGradient
from ofmu_jax.losses import likelihood
from ofmu_jax.methods import Method
from ofmu_jax.models.llama.model import Llama, LlamaConfig, init_params

TINY = LlamaConfig(
    vocab_size=1024,
    hidden_size=96,
    intermediate_size=288,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=24,
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """The model and the batch that are timed."""

    model: str = "tiny"
    """tiny, or an architecture that experiments.plan knows, such as llama-3.2-1b."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are float32."""
    remat: Literal["none", "dots", "full"] = "none"
    attention: Literal["auto", "xla", "cudnn"] = "xla"
    scan_layers: bool | None = None
    """A loop over layers, or each written out; default: a loop of 8 or more."""
    length: Annotated[int, Bound(2)] = 64
    batch_size: Count = 8
    inner_steps: Count = 5
    """T of the pieces that have an inner loop."""
    rounds: Count = 9
    """Every piece is timed once a round; the median over rounds counts."""

    @property
    def tokens(self) -> int:
        """Tokens that one gradient reads."""
        return self.batch_size * self.length

    def config(self) -> LlamaConfig:
        """The architecture.

        Raises:
          ModelError: if no architecture has that name.
        """
        found = TINY if self.model == "tiny" else architecture(self.model)
        names = ("dtype", "remat", "attention", "scan_layers")
        return dataclasses.replace(found, **{n: getattr(self, n) for n in names})


def pieces(config: Shape, apply_fn) -> dict[str, Method]:
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
    """What one update costs."""

    counted: float  # gradient evaluations
    updates: int  # optimizer steps in it
    compiled: float  # seconds that XLA took
    seconds: float  # wall, median
    memory: int  # bytes, temporary, by XLA's own analysis


def measure(shape: Shape, names: Sequence[str] = ()) -> dict[str, Cost]:
    """Piece -> its counted and measured cost; ``names`` chooses among `pieces`."""
    model = Llama(shape.config())
    params = jax.jit(functools.partial(init_params, model.config))(jax.random.key(0))
    apply_fn = lambda p, ids, mask: model.apply({"params": p}, ids, mask)
    found = pieces(shape, apply_fn)
    found = {name: found[name] for name in names or found}
    runs: dict[str, Callable] = {}
    compiled: dict[str, float] = {}
    memory: dict[str, int] = {}
    for name, method in found.items():
        batches = _batches(shape, model.config, method.batches_per_update)
        state = method.init(params)
        start = time.perf_counter()
        program = jax.jit(method.update).lower(params, state, batches).compile()
        compiled[name] = time.perf_counter() - start
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
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return times


def _batches(shape: Shape, config: LlamaConfig, count: int) -> dict:
    rng = np.random.default_rng(0)

    def batch():
        size = (count, shape.batch_size, shape.length)
        ids = rng.integers(config.vocab_size, size=size, dtype=np.int32)
        return {"input_ids": ids, "labels": ids, "attention_mask": np.ones_like(ids)}

    return jax.device_put({"forget": batch(), "retain": batch()})


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
