"""One training with its progress bar, its logs and its record."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh
from rich.progress import Progress

from experiments.shell import compiled
from experiments.stages.metrics_log import MetricsLog
from experiments.stages.saver import StageSaver
from experiments.stages.trackers.registry import NOBODY, Told
from ofmu_jax import training
from ofmu_jax.methods import Method, Part
from ofmu_jax.methods.base import Params
from ofmu_jax.parallel import sharding
from ofmu_jax.training import checkpoint, placement

STATE = "state"  # of a method that is to be carried on, beside the checkpoint


class Job(NamedTuple):
    """One training: what `fit` takes, and what its fingerprint is made of.

    Either ``method`` is there, or ``once``, which does everything at once.
    """

    made_from: tuple[Any, ...]  # every choice that its result depends on
    method: Method | None
    start: Callable[[], Params]
    stream: Callable[[], Iterable[Any]]
    num_updates: int = 1
    check: training.Check | None = None
    check_every: int = 1
    stopping: training.StoppingRule | None = None
    part: Part | None = None  # of the parameters, that the method is one of
    alone: bool = False  # the result is the part, without what stays as it is
    network: Any = None  # of the result, where it is not that of the domain
    setup_cost: float = 0.0  # gradients of one batch, before the first update
    once: Callable[[Params], Params] | None = None
    carries_state: bool = False  # leaves the method's state in `STATE` of its stage
    carried: pathlib.Path | None = None  # such a state, to start with
    remedy: str = ""  # where the training breaks


def fit(
    job: Job,
    *,
    label: str,
    progress: Progress,
    saver: StageSaver,
    mesh: Mesh | None = None,
    seed: int = 0,
    told: Told = NOBODY,
) -> tuple[Params, dict[str, Any]]:
    """Runs a job; its stage gets metrics.jsonl and event files while it goes on.

    Args:
      label: of the progress bar.
      saver: of the stage; if it has a snapshot, the run goes on from there.
      mesh: to place everything on; the batches are then this process's rows.
      seed: of adapters.
      told: trackers that get what metrics.jsonl gets.

    Returns:
      The parameters of the whole model (or of the part alone, if the job says so), and
      a record as JSON values: cost, reason of the end, metrics, checks. Its seconds are
      without those of the checks, and with those of compiling, which it tells besides.
    """
    check = _Timed(job.check)
    saver.aside = lambda: check.spent
    if job.once is not None:
        params, record = _once(job, job.once, check, progress, label)
    else:
        params, record = _updates(job, check, label, progress, saver, mesh, seed, told)
    cost = 0.0 if job.method is None else job.method.gradient_evaluations
    return params, record | {
        "gradient_evaluations": job.setup_cost + record["updates"] * cost,
        "gradient_evaluations_per_update": cost,
        "setup_gradient_evaluations": job.setup_cost,
    }


def _updates(
    job: Job,
    check: "_Timed",
    label: str,
    progress: Progress,
    saver: StageSaver,
    mesh: Mesh | None,
    seed: int,
    told: Told,
) -> tuple[Params, dict[str, Any]]:
    """Update after update, by `training.run`."""
    assert job.method is not None
    method, params, stream = job.method, job.start(), job.stream()
    if mesh is not None:
        method, params = placement.on_mesh(method, mesh), sharding.place(params, mesh)
        stream = placement.placed(cast(Any, stream), mesh)
    whole: Callable[[Any], Any] = lambda found: found
    fixed = None
    if job.part is not None:
        params, fixed = job.part.split(params, jax.random.key(seed))
        whole = _merging(job.part, fixed, mesh)
        params = params if mesh is None else sharding.place(params, mesh)
    state = None
    if job.carried is not None:
        more = () if fixed is None else (fixed,)
        state = checkpoint.restore(
            job.carried, jax.eval_shape(method.init, params, *more)
        )
    log = MetricsLog(saver.stage_folder, told)
    bar = progress.add_task(label, total=job.num_updates, note="")

    def on_update(done: int, metrics: dict[str, float]) -> None:
        log.write(done, metrics)
        losses = {k: v for k, v in metrics.items() if k.endswith("_loss")}
        note = " ".join(f"{k} {v:.3f}" for k, v in losses.items())
        progress.update(bar, completed=done, note=note)

    result = training.run(
        method,
        params,
        stream,
        num_updates=job.num_updates,
        check=None if job.check is None else lambda found: check(whole(found)),
        check_every=job.check_every,
        stopping=job.stopping,
        on_update=on_update,
        saver=saver,
        fixed=fixed,
        state=state,
    )
    if job.carries_state:
        checkpoint.save(saver.stage_folder / STATE, result.state)
    params = result.params if job.alone else whole(result.params)
    jax.block_until_ready(params)
    spent = saver.spent
    for row in result.checks:
        values = {f"eval_{k}": v for k, v in row.items() if k != "update"}
        log.write(int(row["update"]), values)
    log.close()
    progress.update(bar, total=result.updates, note="")
    return params, {
        "seconds": spent.seconds,
        "compile_seconds": spent.compiling,
        "updates": result.updates,
        "update": result.update,
        "stopped": result.stopped,
        "finite": result.finite,
        "peak_bytes": result.peak_bytes,
        "metrics": result.metrics,
        "checks": result.checks,
    }


def _once(
    job: Job,
    once: Callable[[Params], Params],
    check: "_Timed",
    progress: Progress,
    label: str,
) -> tuple[Params, dict[str, Any]]:
    """Everything in one step; where that is not finite, the model stays as it was."""
    bar = progress.add_task(label, total=1, note="")
    start = job.start()
    before = {"update": 0, **check(start)}
    started = compiled.clock()
    result = once(start)
    jax.block_until_ready(result)
    spent = compiled.clock().since(started)
    after = {"update": 1, **check(result)}
    progress.update(bar, completed=1)
    finite = all(np.isfinite(value) for value in after.values())
    why = "one step, at its full cost"
    if not finite:
        why = "a check after its one step was not finite"
    return result if finite else start, {
        "seconds": spent.seconds,
        "compile_seconds": spent.compiling,
        "updates": 1,
        "update": int(finite),
        "stopped": why,
        "finite": finite,
        "peak_bytes": None,
        "metrics": [],
        "checks": [before, after] if finite else [before],
    }


class _Timed:
    """A check, and the time that it took, which is not the method's own."""

    def __init__(self, check: training.Check | None):
        self.check, self.spent = check, compiled.NOTHING

    def __call__(self, params: Params) -> Mapping[str, float]:
        jax.block_until_ready(params)
        started = compiled.clock()
        found = {} if self.check is None else self.check(params)
        self.spent = self.spent.plus(compiled.clock().since(started))
        return found


def _merging(part: Part, fixed: Any, mesh: Mesh | None) -> Callable[[Any], Any]:
    """From the trained part to the whole parameters, where they lie on the mesh."""

    def whole(trained: Any) -> Any:
        params = part.merge(trained, fixed)
        return params if mesh is None else sharding.place(params, mesh)

    return whole
