"""Compiles updates, and times them in rounds."""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ofmu_jax.methods import Method


class Case(NamedTuple):
    """An update with all it takes."""

    method: Method
    params: Any
    batches: Any  # leaves (S, B, …)


class Cost(NamedTuple):
    """What one update costs."""

    counted: float  # gradient evaluations
    updates: int  # optimizer steps in it
    compiled: float  # seconds that XLA took
    seconds: float  # wall, median
    memory: int  # bytes, temporary, by XLA's own analysis


def measured(
    cases: Mapping[str, Case],
    rounds: int,
    beside: Mapping[str, Callable[[], Any]] | None = None,
) -> tuple[dict[str, Cost], dict[str, float]]:
    """The costs of updates, and the median seconds of the calls ``beside`` them."""
    runs: dict[str, Callable] = {}
    compiled: dict[str, float] = {}
    memory: dict[str, int] = {}
    known = Known()
    for name, (method, params, batches) in cases.items():
        state = jax.tree.map(known, method.init(params))
        begun = time.perf_counter()
        program = jax.jit(method.update).lower(params, state, batches).compile()
        compiled[name] = time.perf_counter() - begun
        analysis = program.memory_analysis()
        assert analysis is not None  # every backend of JAX has it
        print(
            f"{name}: compiled in {compiled[name]:.1f} s", file=sys.stderr, flush=True
        )
        memory[name] = analysis.temp_size_in_bytes
        runs[name] = functools.partial(program, params, state, batches)
    # After another process, or after the largest program of all, caches are cold and
    # threads asleep: what comes first is what others are divided by.
    woken = {next(iter(group)) for group in (runs, beside) if group}
    times = interleaved({**runs, **(beside or {})}, rounds, woken)
    median = {name: statistics.median(values) for name, values in times.items()}
    costs = {
        name: Cost(
            case.method.gradient_evaluations,
            case.method.parameter_updates,
            compiled[name],
            median[name],
            memory[name],
        )
        for name, case in cases.items()
    }
    return costs, {name: median[name] for name in beside or {}}


def interleaved(
    runs: Mapping[str, Callable], rounds: int, woken: Container[str] = ()
) -> dict[str, list[float]]:
    """Seconds of each call, once a round, so that a busy moment meets all of them.

    Those that are ``woken`` run once more right before, which does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name in runs:
        jax.block_until_ready(runs[name]())  # the first call pays for more than itself
    for _ in range(rounds):
        for name, call in runs.items():
            if name in woken:
                jax.block_until_ready(call())
            begun = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - begun)
    return times


class Known:
    """Gives equal arrays back as one: moments of many methods are the same zeros.

    >>> known = Known()
    >>> known(np.zeros(2)) is known(np.zeros(2))
    True
    """

    def __init__(self) -> None:
        self._by_kind: dict[Any, list[Any]] = {}

    def __call__(self, x: Any) -> Any:
        lies = getattr(x, "sharding", None)
        kind = np.shape(x), str(jax.typeof(x).dtype), lies
        same = self._by_kind.setdefault(kind, [])
        for other in same:
            if np.array_equal(other, x):
                return other
        same.append(x)
        return x
