"""A vision run from its configuration to its report."""

import datetime
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.markup import escape

from experiments.config.vision import Cifar, resolved
from experiments.domains.vision.grid import save_grid
from experiments.pipeline.tuning_vision import tuned
from experiments.pipeline.vision import REFERENCE, TARGET, VisionModel, VisionPipeline
from experiments.report import tables, write
from experiments.report.content import trajectory
from experiments.shell import console, provenance
from experiments.stages.files import to_json, write_json
from ofmu_jax.data.vision.images import load_images
from ofmu_jax.data.vision.split import make_split

GAP, KEPT = 0.05, 0.05  # what a run is held against: shares
UNITS = (
    "UA, RA, TA, MIA and the average gap are shares between 0 and 1; published tables "
    "show them times 100. mia_confidence is the attack that those tables report. The "
    "run time is the wall time of the whole method, compilation and weight masks "
    "included, checks of the stopping rule left out."
)
UNTUNED = (
    "Learning rates are not tuned method by method for this run; recipe.method has "
    "each. A method that falls short here may do better at another rate, so this is no "
    "ranking of methods."
)
TUNED = (
    "Every method was tuned with the same number of trials on other images of the same "
    "kind, scored on validation images: no forget and no test image had a part in it."
)


def run_vision(run: Cifar) -> dict[str, Any]:
    """Trains, unlearns, evaluates; writes and prints the report, and returns it.

    Raises:
      ValueError: options that do not fit, or data that cannot be read.
      FloatingPointError: the training of the original or retrained model diverged.
    """
    run = resolved(run)
    data = load_images(
        run.dataset, run.data_dir, max_train=run.max_train, max_test=run.max_test
    )
    split = make_split(data, run.forget, seed=run.data_seed, validation=run.validation)
    run.output_dir.mkdir(parents=True, exist_ok=True)
    trials = {}
    with console.progress() as progress:
        pipeline = VisionPipeline(run, data, split, progress)
        if run.tune:
            run, trials = tuned(pipeline)
            pipeline = pipeline.variant(run)
        write_json(run.output_dir / "config.json", {"command": "cifar"} | to_json(run))
        models = list(pipeline.models())
    rates = TUNED if run.tune else UNTUNED
    notes = [f"{split.note[0].upper()}{split.note[1:]}.", UNITS, rates]
    notes += _grids(run, pipeline, models)
    sets = pipeline.task.sets
    content = {
        "schema_version": 1,
        "title": f"Forgetting {run.forget} of {data.name} ({run.model})",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "experiments.run", *sys.argv[1:]]),
        "recipe": to_json(run),
        "environment": provenance.environment(),
        "data": {
            "name": data.name,
            "counts": {name: len(part) for name, part in sets.items()},
        },
        "models": [_row(model) for model in models],
        "claims": claims(models),
        "tuning": trials,
        "notes": notes,
    }
    _, page = write.write_report(run.output_dir, content)
    console.console.print(tables.console_table(content))
    for claim in content["claims"]:
        mark = "[green]yes[/]" if claim["holds"] else "[red]no [/]"
        line = f"{claim['text']} ({claim['evidence']})"
        console.console.print(f"{mark} {escape(line)}", highlight=False)
    console.console.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return content


def _row(model: VisionModel) -> dict[str, Any]:
    record = model.record
    return {
        "role": model.role,
        "method": model.name,
        "seed": model.seed,
        "metrics": model.metrics,
        "intervals": model.intervals,
        "seconds": record["seconds"],
        "gradient_evaluations": record["gradient_evaluations"],
        "peak_bytes": record.get("peak_bytes"),
        "outer_steps": record["updates"],
        "stopped": record["stopped"],
        "forget_target": record.get("forget_target"),
        "trajectory": [
            row
            | {
                "gradient_evaluations": row["gradient_evaluations"]
                + (record["setup_gradient_evaluations"] if row["step"] else 0)
            }
            for row in trajectory(record)
        ],
    }


def claims(models: Sequence[VisionModel]) -> list[dict[str, Any]]:
    """For each method, means over seeds: is it near the retrained model, and useful?"""
    found = []
    reference = _mean(models, REFERENCE, "test_accuracy")
    before = _mean(models, TARGET, "average_gap")
    for name in dict.fromkeys(m.name for m in models if m.role == "unlearned"):
        gap = _mean(models, name, "average_gap")
        test = _mean(models, name, "test_accuracy")
        found.append(
            {
                "method": name,
                "text": f"{name}'s average gap to the retrained model is at most {GAP}",
                "holds": bool(gap <= GAP),
                "evidence": f"average_gap: {gap:.3f}, before unlearning {before:.3f}",
            }
        )
        found.append(
            {
                "method": name,
                "text": f"{name}'s test accuracy is within {KEPT} of the retrained "
                "model's",
                "holds": bool(test >= reference - KEPT),
                "evidence": f"test_accuracy: {test:.3f}, retrained {reference:.3f}",
            }
        )
    return found


def _mean(models: Sequence[VisionModel], name: str, metric: str) -> float:
    return float(np.mean([m.metrics[metric] for m in models if m.name == name]))


def _grids(
    run: Cifar, pipeline: VisionPipeline, models: Sequence[VisionModel]
) -> list[str]:
    """Writes a picture for each seed; returns the notes that name them."""
    if not run.grid_images:
        return []
    notes = []
    shared = {m.name: m for m in models if m.role != "unlearned"}
    for seed in run.seeds:
        shown = shared | {m.name: m for m in models if m.seed == seed}
        names = {"before": TARGET, "retrained": REFERENCE}
        names |= {name: name for name in run.methods}
        predictions = {label: shown[name].forget for label, name in names.items()}
        name = f"forget_images_seed{seed}.png"
        save_grid(
            run.output_dir / name,
            pipeline.task.sets["forget"],
            {k: p for k, p in predictions.items() if p is not None},
            pipeline.task.data.class_names,
            run.grid_images,
        )
        notes.append(
            f"{name}, beside this report, shows forget images with the predictions of "
            f"every model (seed {seed})."
        )
    return notes
