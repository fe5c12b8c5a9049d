"""One training run with its progress bar, its logs and its record."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, cast

import jax
from jax.sharding import Mesh
from rich.progress import Progress

from experiments.stages.metrics_log import MetricsLog
from experiments.stages.saver import StageSaver
from ofmu_jax.methods import Method, Part
from ofmu_jax.parallel import sharding
from ofmu_jax.training import loop, placement


def fit(
    method: Method,
    params: Any,
    stream: Iterable[Any],
    *,
    label: str,
    progress: Progress,
    saver: StageSaver,
    mesh: Mesh | None = None,
    part: Part | None = None,
    seed: int = 0,
    check: loop.Check | None = None,
    **options: Any,
) -> tuple[loop.Run, dict[str, Any]]:
    """Runs a method; its stage gets metrics.jsonl and event files while it goes on.

    Args:
      label: of the progress bar.
      saver: of the stage; if it has a snapshot, the run goes on from there.
      mesh: to place everything on; its batches are then this process's rows.
      part: of the parameters that the method is one of. Those that are given, those
        that the check gets and those of the result are of the whole model.
      seed: of adapters.
      **options: of `ofmu_jax.training.loop.run`.

    Returns:
      The run, and its record as JSON values: cost, reason of the end, metrics, checks.
    """
    if mesh is not None:
        method, params = placement.on_mesh(method, mesh), sharding.place(params, mesh)
        stream = placement.placed(cast(Any, stream), mesh)
    whole: Callable[[Any], Any] = lambda found: found
    if part is not None:
        params, fixed = part.split(params, jax.random.key(seed))
        whole = _merging(part, fixed, mesh)
        options["fixed"] = fixed
        if mesh is not None:
            params = sharding.place(params, mesh)
        if check is not None:
            check = lambda found, of_whole=check: of_whole(whole(found))
    log = MetricsLog(saver.stage_folder)
    bar = progress.add_task(label, total=options["num_updates"], note="")

    def on_update(done: int, metrics: dict[str, float]) -> None:
        log.write(done, metrics)
        losses = {k: v for k, v in metrics.items() if k.endswith("_loss")}
        note = " ".join(f"{k} {v:.3f}" for k, v in losses.items())
        progress.update(bar, completed=done, note=note)

    result = loop.run(
        method,
        params,
        stream,
        check=check,
        on_update=on_update,
        saver=saver,
        **options,
    )
    result = dataclasses.replace(result, params=whole(result.params))
    jax.block_until_ready(result.params)
    seconds = saver.seconds
    for row in result.checks:
        values = {f"eval_{k}": v for k, v in row.items() if k != "update"}
        log.write(int(row["update"]), values)
    log.close()
    progress.update(bar, total=result.updates, note="")
    return result, {
        "seconds": seconds,
        "updates": result.updates,
        "update": result.update,
        "stopped": result.stopped,
        "finite": result.finite,
        "gradient_evaluations": result.updates * method.gradient_evaluations,
        "gradient_evaluations_per_update": method.gradient_evaluations,
        "peak_bytes": result.peak_bytes,
        "metrics": result.metrics,
        "checks": result.checks,
    }


def _merging(part: Part, fixed: Any, mesh: Mesh | None) -> Callable[[Any], Any]:
    """From the trained part to the whole parameters, where they lie on the mesh."""

    def whole(trained: Any) -> Any:
        params = part.merge(trained, fixed)
        return params if mesh is None else sharding.place(params, mesh)

    return whole
