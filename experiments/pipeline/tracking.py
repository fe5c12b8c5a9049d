"""What the trackers of a run are told of its models."""

import contextlib
from collections.abc import Mapping
from typing import Any

from experiments.config.common import Run
from experiments.deletion.record import choices_of
from experiments.domains.base import Model
from experiments.stages.files import to_json
from experiments.stages.stage import Stage
from experiments.stages.trackers.base import About
from experiments.stages.trackers.registry import Told, told

SPENT = ("seconds", "gradient_evaluations")  # of a model's record


def training(
    run: Run, role: str, name: str, seed: int, stage: Stage
) -> contextlib.AbstractContextManager[Told]:
    """The trackers of a run, open for one training.

    Args:
      role: target, retrained, unlearned, or trial.
      name: of the method, or the role.
    """
    title = f"{name}, seed {seed}"
    title += f", {stage.folder.name}" if role == "trial" else ""
    tags = {"role": role, "method": name, "seed": str(seed)}
    config: dict[str, Any] = choices_of(run)
    if name in run.specs:
        config[name] = to_json(run.config_of(name))
    about = About(title, run.output_dir.name, tags, config, run.output_dir)
    return told(run.trackers, about, stage.folder, stage.fingerprint)


def evaluated(run: Run, model: Model, metrics: Mapping[str, float]) -> None:
    """Tells what an evaluation found, to where the model's training was told."""
    spent = {name: model.record[name] for name in SPENT if name in model.record}
    stage = Stage(model.folder / "training", model.identity)
    with training(run, model.role, model.name, model.seed, stage) as trackers:
        trackers.evaluated({**metrics, **spent})
