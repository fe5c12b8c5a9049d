"""One training run with its progress bar, its logs and its record."""

import pathlib
import time
from collections.abc import Iterable
from typing import Any

from rich.progress import Progress

from experiments import logs
from ofmu_jax import training
from ofmu_jax.methods import Method

SHOWN = ("forget_loss", "retain_loss")  # beside the progress bar


def fit(
    method: Method,
    params: Any,
    stream: Iterable[Any],
    *,
    label: str,
    progress: Progress,
    folder: pathlib.Path,
    **options: Any,
) -> tuple[training.Run, dict[str, Any]]:
    """Runs a method; ``folder`` gets metrics.jsonl and event files while it goes on.

    Args:
      label: of the progress bar.
      **options: of `ofmu_jax.training.run`.

    Returns:
      The run, and its record as JSON values: cost, reason of the end, metrics, checks.
    """
    log = logs.MetricsLog(folder)
    bar = progress.add_task(label, total=options["num_updates"], note="")

    def on_update(done: int, metrics: dict[str, float]) -> None:
        log.write(done, metrics)
        note = " ".join(f"{k} {metrics[k]:.3f}" for k in SHOWN if k in metrics)
        progress.update(bar, completed=done, note=note)

    started = time.perf_counter()
    result = training.run(method, params, stream, on_update=on_update, **options)
    seconds = time.perf_counter() - started
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
