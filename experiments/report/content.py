"""From the models of a run to the report's content: rows, trajectories, claims."""

import dataclasses
import datetime
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.config.language import LanguageRun
from experiments.pipeline.language import REFERENCE, TARGET, Model
from experiments.report.remarks import remarks
from experiments.shell import provenance
from experiments.stages.files import to_json, write_json
from ofmu_jax.data.language.records import UnlearningData

KEPT, NEAR = 0.9, 0.1  # the goals that a run is held against


def report_content(
    run: LanguageRun,
    data: UnlearningData,
    models: Sequence[Model],
    title: str,
    trials: Mapping[str, Sequence[dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """The dict that `report.write.write_report` takes (its schema says what)."""
    return {
        "schema_version": 1,
        "title": title,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "experiments.run", *sys.argv[1:]]),
        "recipe": to_json(run),
        "environment": provenance.environment(),
        "data": sizes(data),
        "models": [_row(model) for model in models],
        "notes": remarks(run, models),
        "claims": claims(models),
        "tuning": dict(trials or {}),
    }


def sizes(data: UnlearningData) -> dict[str, Any]:
    """Name of the data and rows of each of its sets."""
    counts = {
        field.name: len(rows)
        for field in dataclasses.fields(data)
        if isinstance(rows := getattr(data, field.name), tuple)
    }
    return {"name": data.name, "counts": counts}


def _row(model: Model) -> dict[str, Any]:
    evaluation, record = model.evaluation, model.record
    assert evaluation is not None
    return {
        "role": model.role,
        "method": model.name,
        "seed": model.seed,
        "metrics": evaluation.metrics,
        "intervals": {name: list(ends) for name, ends in evaluation.intervals.items()},
        "missing": [f"{k}: {reason}" for k, reason in evaluation.missing.items()],
        "notes": evaluation.notes,
        "seconds": record.get("seconds"),
        "gradient_evaluations": record.get("gradient_evaluations"),
        "peak_bytes": record.get("peak_bytes"),
        "outer_steps": record.get("updates"),
        "stopped": record.get("stopped"),
        "forget_target": record.get("forget_target"),
        "equivalence_margin": evaluation.options.equivalence_margin,
        "export": model.export,
        "trajectory": trajectory(record),
    }


def trajectory(record: dict[str, Any], most: int = 400) -> list[dict[str, Any]]:
    """Metrics per update and the checks between them, at most ``most`` updates."""
    cost = record.get("gradient_evaluations_per_update", 1.0)
    metrics = record.get("metrics", [])
    stride = max(1, -(-len(metrics) // most))
    rows: dict[int, dict[str, Any]] = {}
    for row in metrics[::stride]:
        rows.setdefault(int(row["update"]), {}).update(row)
    for check in record.get("checks", []):
        renamed = {f"eval_{k}": v for k, v in check.items() if k != "update"}
        rows.setdefault(int(check["update"]), {}).update(renamed)
    return [
        {
            "step": step,
            "gradient_evaluations": step * cost,
            **{k: v for k, v in row.items() if k != "update"},
        }
        for step, row in sorted(rows.items())
    ]


def claims(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Whether OFMU kept what was to be kept and forgot what was to be forgotten.

    Both are measured on held-out questions where the data has them, as means over
    the seeds, and each method's numbers stand beside OFMU's.
    """
    found = []
    unlearned = dict.fromkeys(m.name for m in models if m.role == "unlearned")
    for name in unlearned:
        kept = _pairs(models, name, TARGET, "retain")
        if kept is not None:
            ours, theirs, metric = kept
            share = ours / theirs if theirs else float("nan")
            found.append(
                {
                    "method": name,
                    "text": f"{name} keeps at least {KEPT:.0%} of the target model's "
                    "retain probability",
                    "holds": bool(share >= KEPT),
                    "evidence": f"{metric}: {ours:.3f} of {theirs:.3f}, {share:.1%}",
                }
            )
        forgot = _pairs(models, name, REFERENCE, "forget")
        if forgot is not None:
            ours, theirs, metric = forgot
            found.append(
                {
                    "method": name,
                    "text": f"{name}'s forget probability is within {NEAR} of the "
                    "retrained reference's",
                    "holds": bool(abs(ours - theirs) <= NEAR),
                    "evidence": f"{metric}: {ours:.3f}, reference {theirs:.3f}",
                }
            )
    return found


def _pairs(models: Sequence[Model], name: str, against: str, part: str):
    """Means over seeds of a method's probability and of another model's."""
    for metric in (f"{part}_heldout_Q_A_Prob", f"{part}_Q_A_Prob"):
        ours = _values(models, name, metric)
        theirs = _values(models, against, metric)
        if ours and theirs:
            return float(np.mean(ours)), float(np.mean(theirs)), metric
    return None


def _values(models: Sequence[Model], name: str, metric: str) -> list[float]:
    return [
        m.evaluation.metrics[metric]
        for m in models
        if m.name == name and m.evaluation and metric in m.evaluation.metrics
    ]


def write_config(folder: pathlib.Path, run: LanguageRun) -> None:
    """Writes ``config.json``: the command's every choice."""
    command = {"command": type(run).__name__.lower()}
    write_json(folder / "config.json", command | to_json(run))
