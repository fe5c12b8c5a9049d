"""Checks and times the device that JAX finds here, in minutes.

Whether it computes what the CPU computes (`agreement`), the rate of its matrix products
and its memory, and what updates of a real model's shape take on it: tokens a second,
and the share of that rate. With --torch the same gradient ascent in PyTorch.
"""

import dataclasses
import functools
import itertools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from rich.table import Table

from experiments.shell.console import console
from experiments.stages.files import write_json
from experiments.studies import agreement, cost
from experiments.studies.against import TorchError, torch_updates
from experiments.studies.measuring import Cost, interleaved
from experiments.studies.pieces import ASCENT
from experiments.studies.shapes import Shape
from ofmu_jax.models.llama.attention import uses_cudnn
from ofmu_jax.models.llama.model import init_params

PIECES = (
    ASCENT,
    "GradDiff",
    "OFMU: no similarity, no penalty",
    "OFMU: look-ahead, value gap",  # the default form
    "OFMU: frozen direction, differences, secant",
    "OFMU: linearize, secant",
)

REAL = Shape("llama-3.2-1b", "bfloat16", "dots", length=512, inner_steps=1, rounds=5)


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Agreement with the CPU, rates, and the time of updates at a real shape."""

    everyday: ClassVar = (
        *("shape.model", "shape.batch_size", "shape.length", "shape.dtype", "torch"),
        *("agreement", "output"),
    )

    shape: Shape = REAL
    torch: bool = False
    """Also first-order updates in PyTorch, which has to be installed."""
    agreement: bool = True
    """Compare with the CPU: minutes, as everything is compiled three times."""
    output: pathlib.Path | None = None
    """Where to write all numbers as JSON."""


def run(config: Accelerator) -> dict[str, Any]:
    """All that is measured, as JSON can hold it; written after every piece."""
    found: dict[str, Any] = {"shape": dataclasses.asdict(config.shape)}
    parts: dict[str, Callable[[], Any]] = {
        # First, while JAX holds none of the accelerator's memory.
        "torch": lambda: against_torch(config.shape) if config.torch else {},
        "device": device,
        "rates": rates,
        "parameters": lambda: parameters(config.shape),
        "agreement": lambda: agreement.distances() if config.agreement else {},
        "variants": lambda: variants(config.shape),
        "updates": lambda: timed(config.shape),
    }
    for name, part in parts.items():
        start = time.perf_counter()
        value = part()
        pieces = value if isinstance(value, Iterator) else iter([(None, value)])
        for piece, measured in pieces:
            if piece is None:
                found[name] = measured
            else:
                found.setdefault(name, {})[piece] = measured
            seconds = time.perf_counter() - start
            said = name if piece is None else f"{name}, {piece}"
            print(f"{said}: {seconds:.0f} s", file=sys.stderr, flush=True)
            if config.output is not None:
                write_json(config.output, found)
    return found


def device() -> dict[str, Any]:
    """Which device and which versions."""
    found = jax.local_devices()[0]
    memory = (found.memory_stats() or {}).get("bytes_limit")
    return {
        "platform": found.platform,
        "kind": found.device_kind,
        "memory_bytes": memory,
        "jax": jax.__version__,
    }


def rates(size: int | None = None, rounds: int = 10) -> dict[str, float]:
    """Products of bfloat16 matrices a second, and bytes copied, read and written."""
    size = size or (1024 if jax.default_backend() == "cpu" else 8192)
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size), jnp.bfloat16) for key in keys)
    runs = {
        "product": functools.partial(jax.jit(jnp.matmul), a, b),
        "copy": functools.partial(jax.jit(jnp.negative), a),
    }
    times = interleaved(runs, rounds)
    median = {name: statistics.median(times[name]) for name in runs}
    return {
        "flops_per_second": 2 * size**3 / median["product"],
        "bytes_per_second": 2 * a.nbytes / median["copy"],
    }


def parameters(shape: Shape) -> int:
    """N, those that a token is multiplied with: all but an untied table's rows."""
    config = dataclasses.replace(shape.config(), attention="xla")
    made = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    total = sum(x.size for x in jax.tree.leaves(made))
    table = config.vocab_size * config.hidden_size
    return total if config.tie_word_embeddings else total - table


# A piece, and its cost or why there is none.
Measured = Iterator[tuple[str, dict[str, Any]]]


def timed(shape: Shape) -> Measured:
    """Each of `PIECES` as it is measured; some may not fit into the memory."""
    for name in PIECES:
        yield name, _tried(shape, full_name(name, shape.inner_steps))


def variants(shape: Shape) -> Measured:
    """Gradient ascent with what can be kept and how attention can be computed."""
    fused = uses_cudnn("auto", shape.dtype)
    kinds = ("xla", "auto") if fused else ("xla",)
    for remat, attention in itertools.product(("none", "dots"), kinds):
        chosen: dict[str, Any] = {"remat": remat, "attention": attention}
        one = dataclasses.replace(shape, **chosen)
        name = f"{ASCENT}, remat {remat}, attention {attention}"
        yield name, _tried(one, ASCENT)


def _tried(shape: Shape, name: str) -> dict[str, Any]:
    try:
        return cost.measure(shape, [name])[name]._asdict()
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error).splitlines()[0]}


def full_name(name: str, inner_steps: int) -> str:
    """A name of `PIECES` as `pieces` has it."""
    prefix, _, rest = name.partition(": ")
    return f"{prefix}, T = {inner_steps}: {rest}" if rest else name


def against_torch(shape: Shape) -> dict[str, Any]:
    """Update -> median seconds, or why there is none."""
    try:
        # Without recomputing, and with: PyTorch's own recomputes whole layers.
        remats = ("none", "full")
        with torch_updates(shape, remats, exact=False) as (calls, failed):
            times = interleaved(calls, shape.rounds)
    except TorchError as error:
        return {"PyTorch": {"error": str(error)}}
    found: dict[str, Any] = {k: statistics.median(v) for k, v in times.items()}
    return found | {name: {"error": why} for name, why in failed.items()}


def tables(found: dict[str, Any]) -> list[Table]:
    """What `run` found, for people."""
    apart = Table("piece", title="‖device − CPU‖ / ‖CPU‖ by matmul precision")
    for precision in agreement.PRECISIONS:
        apart.add_column(precision, justify="right")
    for name, values in found["agreement"].items():
        apart.add_row(name, *(f"{values[p]:.1e}" for p in agreement.PRECISIONS))
    shape, peak = Shape(**found["shape"]), found["rates"]["flops_per_second"]
    title = (
        f"{shape.model}, {shape.dtype}, {shape.batch_size} × {shape.length} tokens; "
        f"products at {peak / 1e12:.1f} TFLOP/s"
    )
    took = Table("update", title=title)
    for column in (
        "ms",
        "gradients",
        "tokens/s",
        "of peak",
        "temporary GB",
        "compiled s",
    ):
        took.add_column(column, justify="right")
    failed = []
    for name, values in (found["updates"] | found["variants"]).items():
        if "error" in values:
            took.add_row(name, "—")
            failed.append(f"{name}: {values['error']}")
            continue
        x = Cost(**values)
        speed = x.counted * shape.tokens / x.seconds
        share = 6 * found["parameters"] * speed / peak
        took.add_row(
            name,
            f"{1e3 * x.seconds:.1f}",
            f"{x.counted:.0f}",
            f"{speed:.0f}",
            f"{share:.0%}",
            f"{x.memory / 1e9:.1f}",
            f"{x.compiled:.1f} s",
        )
    for name, value in found["torch"].items():
        if isinstance(value, dict):
            took.add_row(name, "—")
            failed.append(f"{name}: {value['error']}")
        else:
            took.add_row(name, f"{1e3 * value:.1f}")
    took.caption = "\n".join(failed) or None
    return [apart, took]


def main(config: Accelerator) -> None:
    """Measures, writes and prints."""
    found = run(config)
    console.print(str(found["device"]))
    for table in tables(found):
        console.print(table)
