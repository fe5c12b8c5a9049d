"""The same number of trials for every method, on images that are not reported.

As for language models (`experiments.pipeline.tuning`), a method is tuned on a
*validation request*: images like the forget images, but taken from the retain images
(another draw, or the next class), to be forgotten by the model that was trained on the
retain images alone, against one retrained without them as well. The validation images,
which no model is trained on, stand in for the test images. So
neither a forget nor a test image has a part in it.

A trial's score is its average gap to the retrained model. Trial 0 is the configuration
as it stands, the others are a scrambled Sobol sequence over the space that each
method declares.
"""

import dataclasses
import functools
from typing import Any

from experiments.config.vision import Cifar
from experiments.pipeline import search
from experiments.pipeline.vision import REFERENCE, VisionModel, VisionPipeline
from ofmu_jax.data.vision.images import ImageSet
from ofmu_jax.data.vision.split import Split, make_split


def validation_request(data: ImageSet, split: Split) -> tuple[ImageSet, Split]:
    """The images and the split that methods are tuned on.

    Args:
      data: all images of the run.
      split: what the run forgets and keeps; with validation images.

    Returns:
      The retain images as training images and the validation images as test images,
      and how they are divided.
    """
    kind, _, value = split.spec.partition(":")
    spec = split.spec
    if kind == "class":
        spec = f"class:{(int(value) + 1) % data.num_classes}"
    elif kind == "file":
        spec = f"random:{len(split.forget) / len(split.retain):.6g}"
    part = dataclasses.replace(
        data,
        train=data.train.take(split.retain),
        test=data.train.take(split.validation),
    )
    return part, make_split(part, spec, seed=split.seed, validation=0.0)


class Tuning:
    """Trials of a run, each in folders of its own under ``OUT/tuning``."""

    def __init__(self, pipeline: VisionPipeline):
        self.run = pipeline.run
        self.seed = self.run.seeds[0]
        self.folder = self.run.output_dir / "tuning"
        self.target = pipeline.trained(REFERENCE, self.seed)
        self.validation = VisionPipeline(
            dataclasses.replace(self.run, output_dir=self.folder),
            *validation_request(pipeline.task.data, pipeline.task.split),
            pipeline.progress,
        )
        reference = self.validation.trained(REFERENCE, self.seed)
        self.reference = self.validation.evaluated(reference, None)

    def method(self, name: str) -> tuple[Any, list[dict[str, Any]]]:
        """The best configuration of a method, and the record of all its trials."""
        run, trial = self.run, functools.partial(self._trial, name)
        return search.best(run.method(name), run.specs[name].search, run.tune, trial)

    def _trial(self, name: str, number: int, config: Any) -> dict[str, Any]:
        run = dataclasses.replace(
            self.run.with_method(name, config),
            output_dir=self.folder / name / f"trial{number}",
        )
        pipeline = self.validation.variant(run)
        model = pipeline.unlearned(name, self.seed, self.target, self.reference)
        model = pipeline.evaluated(model, self.reference)
        return _record(number, config, model, self.reference)


def _record(
    number: int, config: Any, model: VisionModel, reference: VisionModel
) -> dict[str, Any]:
    return {
        "trial": number,
        "config": dataclasses.asdict(config),
        "score": model.metrics["average_gap"],
        "check": model.metrics,
        "reference": reference.metrics,
        "gradient_evaluations": model.record["gradient_evaluations"],
        "seconds": model.record["seconds"],
        "stopped": model.record["stopped"],
    }


def tuned(pipeline: VisionPipeline) -> tuple[Cifar, dict[str, list[dict[str, Any]]]]:
    """The run with the best configuration of every method, and all trials by method."""
    run, tuning, records = pipeline.run, Tuning(pipeline), {}
    for name in run.methods:
        config, records[name] = tuning.method(name)
        run = run.with_method(name, config)
    return run, records
