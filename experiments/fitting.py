"""One training run with its progress bar, its logs and its record."""

from collections.abc import Iterable
from typing import Any, cast

import jax
from jax.sharding import Mesh
from rich.progress import Progress

from experiments import logs
from experiments.resuming import StageSaver
from ofmu_jax import placement, sharding, training
from ofmu_jax.methods import Method


def fit(
    method: Method,
    params: Any,
    stream: Iterable[Any],
    *,
    label: str,
    progress: Progress,
    saver: StageSaver,
    mesh: Mesh | None = None,
    **options: Any,
) -> tuple[training.Run, dict[str, Any]]:
    """Runs a method; its stage gets metrics.jsonl and event files while it goes on.

    Args:
      label: of the progress bar.
      saver: of the stage; if it has a snapshot, the run goes on from there.
      mesh: to place everything on; its batches are then this process's rows.
      **options: of `ofmu_jax.training.run`.

    Returns:
      The run, and its record as JSON values: cost, reason of the end, metrics, checks.
    """
    if mesh is not None:
        method, params = placement.on_mesh(method, mesh), sharding.place(params, mesh)
        stream = placement.placed(cast(Any, stream), mesh)
    log = logs.MetricsLog(saver.stage_folder)
    bar = progress.add_task(label, total=options["num_updates"], note="")

    def on_update(done: int, metrics: dict[str, float]) -> None:
        log.write(done, metrics)
        losses = {k: v for k, v in metrics.items() if k.endswith("_loss")}
        note = " ".join(f"{k} {v:.3f}" for k, v in losses.items())
        progress.update(bar, completed=done, note=note)

    result = training.run(
        method, params, stream, on_update=on_update, saver=saver, **options
    )
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
