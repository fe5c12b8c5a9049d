"""How fast OFMU converges, and to what, where the answer is known on paper.

``python -m experiments.convergence`` runs the transform on a problem of two quadratic
losses and compares its limit and its rate with those of linear algebra, and on a small
network, where there is a rate to measure and none to compare with.
"""

import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from rich.table import Table

import ofmu_jax
from experiments.config import from_file
from experiments.shell import command_line, console
from experiments.stages.files import write_json, write_with
from experiments.studies.quadratic import (
    Problem,
    Quadratic,
    network,
    on_paper,
    quadratic,
)
from ofmu_jax.bounds import Count, NotNegative, NotNegativeInt, Positive
from ofmu_jax.choices import Base

MODULE = "experiments.convergence"
COLUMNS = {
    "rate": "rate",
    "rate_on_paper": "on paper",
    "from_limit_on_paper": "|θ_K − θ_∞|",
    "limit_from_minimum": "|θ_∞ − θ*|",
    "slope": "exponent of min |∇F|²",
}


@dataclasses.dataclass(frozen=True)
class Convergence:
    """Sizes and steps of both problems."""

    dimension: Count = 20
    outer_iterations: Count = 300
    inner_steps: tuple[int, ...] = (0, 1, 5)
    """T; every one is run with both bases."""
    inner_learning_rate: Positive = 0.3
    outer_learning_rate: Positive = 0.5
    rho: NotNegative = 0.3
    beta: NotNegative = 0.1
    """Of the network; the quadratic problem has none."""
    network_learning_rate: Positive = 0.02
    """Of both loops on the network."""
    seed: NotNegativeInt = 0
    output_dir: pathlib.Path = pathlib.Path("runs/convergence")
    """convergence.json and convergence.svg are written here."""


class Course(NamedTuple):
    """What a run left; ``…_k`` have the shape (K,), before each outer iteration."""

    params_k: np.ndarray  # shape=(K, D)
    outer_grad_norm_k: np.ndarray  # ‖∇F(θ_k)‖
    last: np.ndarray  # θ_K; shape=(D,)


def run(
    problem: Problem, config: Convergence, inner_steps: int, base: Base, beta: float
) -> Course:
    """``outer_iterations`` of the transform with plain gradient steps, all exact."""
    tx = ofmu_jax.ofmu(
        optax.sgd(config.outer_learning_rate),
        optax.sgd(config.inner_learning_rate),
        inner_steps=inner_steps,
        beta=beta,
        rho=config.rho,
        base=base,
    )
    forget, retain = problem.forget, problem.retain
    losses = {
        "forget_loss": lambda p, _: forget(p),
        "retain_loss": lambda p, _: retain(p),
    }

    def step(carry, _):
        params, state = carry
        gradient = ofmu_jax.outer_gradient(
            params, forget, retain, beta=beta, rho=config.rho
        )
        updates, state = tx.update(gradient, state, params, **losses)
        found = (params, jnp.linalg.norm(gradient))
        return (optax.apply_updates(params, updates), state), found

    go = jax.jit(
        lambda p: jax.lax.scan(step, (p, tx.init(p)), length=config.outer_iterations)
    )
    (last, _), (params_k, norm_k) = go(problem.start)
    return Course(np.asarray(params_k), np.asarray(norm_k), np.asarray(last))


def rate(distances: np.ndarray) -> float:
    """Factor per iteration: over the last half of what rounding leaves to see.

    >>> rate(0.5 ** np.arange(20.0))
    0.5
    """
    seen = np.flatnonzero(distances > 1e-10 * distances[0])
    end = int(seen[-1]) if len(seen) else 0
    start = end // 2
    if end - start < 2:
        return float("nan")
    return float((distances[end] / distances[start]) ** (1 / (end - start)))


def slope(norms: np.ndarray) -> float:
    """Exponent s of min_{j ≤ k} ‖∇F(θ_j)‖² ~ kˢ, over the last half of the iterations.

    >>> round(slope(1 / np.sqrt(np.arange(1.0, 101.0))), 6)
    -1.0
    """
    best = np.minimum.accumulate(norms**2)
    half = slice(len(best) // 2, None)
    steps = np.arange(1, len(best) + 1)
    return float(np.polyfit(np.log(steps[half]), np.log(best[half]), 1)[0])


def measure(config: Convergence) -> list[dict[str, Any]]:
    """A row for each problem, T and base, in float64.

    Raises:
      ValueError: for sizes that are too small, or steps so long that it diverges.
    """
    for name, least in (("dimension", 1), ("outer_iterations", 8)):
        if getattr(config, name) < least:
            option = name.replace("_", "-")
            raise ValueError(
                f"--{option} is {getattr(config, name)}; give at least {least}."
            )
    if not config.inner_steps or min(config.inner_steps) < 0:
        raise ValueError(f"--inner-steps is {config.inner_steps}; give counts from 0.")
    kinds = list(itertools.product(config.inner_steps, get_args(Base)))
    with jax.enable_x64(True):
        exact, small = quadratic(config.dimension, config.seed), network(config.seed)
        rows = [_quadratic_row(exact, config, *kind) for kind in kinds]
        return rows + [_network_row(small, config, *kind) for kind in kinds]


def _quadratic_row(
    problem: Quadratic, config: Convergence, steps: int, base: Base
) -> dict[str, Any]:
    rates = config.inner_learning_rate, config.outer_learning_rate
    expected, fixed, minimum = on_paper(problem, steps, base, *rates, config.rho)
    if expected >= 1:
        raise ValueError(
            f"T = {steps}, base {base}: the rate on paper is {expected:.3g}, so it "
            "diverges; lower --outer-learning-rate or --rho."
        )
    course = run(problem.problem(), config, steps, base, 0.0)
    return _row("quadratic", steps, base, course) | {
        "rate": rate(np.linalg.norm(course.params_k - fixed, axis=-1)),
        "rate_on_paper": expected,
        "from_limit_on_paper": float(np.linalg.norm(course.last - fixed)),
        "limit_from_minimum": float(np.linalg.norm(fixed - minimum)),
    }


def _network_row(
    problem: Problem, config: Convergence, steps: int, base: Base
) -> dict[str, Any]:
    eta = config.network_learning_rate
    slower = dataclasses.replace(
        config, inner_learning_rate=eta, outer_learning_rate=eta
    )
    course = run(problem, slower, steps, base, config.beta)
    if not np.isfinite(course.last).all():
        raise ValueError(
            f"T = {steps}, base {base}: the network diverges; lower "
            "--network-learning-rate or --rho."
        )
    found = {"slope": slope(course.outer_grad_norm_k)}
    return _row("network", steps, base, course) | found


def _row(problem: str, steps: int, base: str, course: Course) -> dict[str, Any]:
    row = {"problem": problem, "inner_steps": steps, "base": base}
    return row | {"outer_grad_norm": course.outer_grad_norm_k.tolist()}


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows for the console."""
    found = Table("problem", "T", "base", *COLUMNS.values(), "last |∇F|")
    for row in rows:
        cells = [f"{row[name]:.4g}" if name in row else "—" for name in COLUMNS]
        last = f"{row['outer_grad_norm'][-1]:.3g}"
        labels = (row["problem"], str(row["inner_steps"]), row["base"])
        found.add_row(*labels, *cells, last)
    return found


def figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """‖∇F(θ_k)‖ over the outer iterations, a panel for each problem."""
    drawn = Figure(figsize=(10, 4), layout="constrained")
    panels = drawn.subplots(1, 2)
    for axes, problem in zip(panels, ("quadratic", "network"), strict=True):
        for row in (r for r in rows if r["problem"] == problem):
            style = {"inner": "-", "outer": "--"}[row["base"]]
            label = f"T = {row['inner_steps']}, base {row['base']}"
            axes.semilogy(row["outer_grad_norm"], style, label=label)
        axes.set(title=problem, xlabel="outer iteration k", ylabel="‖∇F(θₖ)‖")
        axes.legend(fontsize=7)
    return drawn


def work(config: Convergence) -> None:
    """Measures, prints the table and writes the files.

    Raises:
      ValueError: a number that is out of range.
    """
    command_line.check_numbers(config)
    if not config.inner_steps or min(config.inner_steps) < 0:
        steps = " ".join(map(str, config.inner_steps))
        raise ValueError(f"--inner-steps is {steps or 'empty'}; give numbers from 0.")
    rows = measure(config)
    console.console.print(table(rows))
    config.output_dir.mkdir(parents=True, exist_ok=True)
    write_json(config.output_dir / "convergence.json", {"config": config, "rows": rows})
    path, drawn = config.output_dir / "convergence.svg", figure(rows)
    write_with(path, lambda partial: drawn.savefig(partial, format="svg"))
    console.console.print(f"Written: {config.output_dir}", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    words, kinds = from_file.configured(arguments, {"": Convergence()})
    config = command_line.parsed(kinds, MODULE, words, __doc__)
    return command_line.tried(lambda: work(config))
