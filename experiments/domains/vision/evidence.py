"""A classifier evaluated; its images and scores for a deletion record, told again."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from experiments.config.vision import Cifar, resolved
from experiments.domains.base import REFERENCE, TARGET, Model, Origin, Tell
from experiments.domains.vision.data import images_of
from experiments.domains.vision.task import VisionTask, predictor
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.evals.vision import metrics
from ofmu_jax.models import classifier
from ofmu_jax.models.resnet import ResNetConfig, Variables
from ofmu_jax.version import __version__

_TRAINED = {
    TARGET: "trained, also on the images that are to be forgotten",
    REFERENCE: "trained without the images that are to be forgotten",
}  # role -> what was done; others are methods
_PROGRAM = """from ofmu_jax.models import classifier, resnet

config, variables = classifier.load(".")  # this folder, downloaded
logits = resnet.predict(config, variables, images)  # (N, height, width, channels)"""


def evaluated(
    task: VisionTask,
    config: ResNetConfig,
    variables: Variables,
    against: Evaluation | None = None,
    against_forget: np.ndarray | None = None,
    tell: Tell = lambda done, total: None,
) -> tuple[Evaluation, np.ndarray]:
    """The evaluation of a model, and its probabilities (N, C) on the forget images.

    Args:
      config: the model's network.
      tell: hears how many images the model has seen.
      against: the evaluation of the retrained model, to compare with, and
        ``against_forget`` its probabilities.
    """
    forget, retain, test = (task.sets[name] for name in ("forget", "retain", "test"))
    model, done = functools.partial(predictor(config), variables), 0
    total = sum(len(part.labels) for part in (forget, retain, test))

    def predict(images: np.ndarray) -> Any:
        nonlocal done
        done = min(done + len(images), total)  # the last batch is filled up
        tell(done, total)
        return model(images)

    size, seed = task.run.eval_batch_size, task.run.data_seed
    found = metrics.predictions(predict, forget, retain, test, size)
    untrained = task.init_variables(seed + 1_000_003)
    values, intervals = metrics.evaluate_vision(
        found,
        untrained_forget=task.probabilities(task.config, untrained, forget),
        reference=None if against is None else against.metrics,
        reference_forget=against_forget,
        attack_rows=task.run.attack_rows,
        adjacent=task.split.adjacent,
    )
    return Evaluation(values, intervals), found.forget.astype(np.float32)


class VisionEvidence:
    """Images, and exports scored as their run did; each reference is scored once."""

    fields = ("image", "shape", "label")

    def __init__(self, task: VisionTask):
        self.task, self.name = task, task.data.name
        self._references: dict[pathlib.Path, tuple[Evaluation, np.ndarray]] = {}
        self._items: dict[str, list[dict[str, Any]]] = {}

    @classmethod
    def of(cls, run: Cifar, places: Mapping[str, pathlib.Path | None]) -> Self:
        """Reads the images of a run again.

        Args:
          places: ``forget_file`` with the indices of ``file:PATH``, where that is no
            longer where the run had it.

        Raises:
          ValueError: images that cannot be read.
        """
        if (path := places.get("forget_file")) is not None:
            run = dataclasses.replace(run, forget=f"file:{path}")
        run = resolved(run)
        return cls(VisionTask(run, *images_of(run)))

    def items(self, part: str) -> Sequence[Any]:
        """Each image of a set: SHA-256 of its pixels, its shape and its label."""
        found = self.task.sets[part]
        if part not in self._items:
            self._items[part] = [
                {
                    "image": hashlib.sha256(image.tobytes()).hexdigest(),
                    "shape": list(image.shape),
                    "label": int(label),
                }
                for image, label in zip(found.images, found.labels, strict=True)
            ]
        return self._items[part]

    def files(self) -> Sequence[Mapping[str, Any]]:
        return []

    def notes(self) -> Sequence[str]:
        return []

    def origin(self, model: Model) -> Origin:
        what = _TRAINED.get(model.role, f"changed by {model.name} to forget images")
        metadata = {"library_name": "ofmu_jax", "pipeline_tag": "image-classification"}
        return Origin(None, metadata, "", what, _PROGRAM)

    def export(self, folder: pathlib.Path) -> Mapping[str, Any]:
        classifier.load_config(folder)  # read back
        return {"readers": {"read_back_by": [f"ofmu_jax {__version__}"]}}

    def rescored(
        self, folder: pathlib.Path, reference: pathlib.Path | None = None
    ) -> Evaluation:
        """The evaluation of an exported model, and first of its reference.

        Raises:
          ValueError: a folder that cannot be read, or a model that has no scores.
        """
        loaded = classifier.load(folder)
        if reference is None:
            return evaluated(self.task, *loaded)[0]
        if reference not in self._references:
            found = evaluated(self.task, *classifier.load(reference))
            self._references[reference] = found
        return evaluated(self.task, *loaded, *self._references[reference])[0]

    def tolerance(self, folder: pathlib.Path) -> float:
        """How far a metric may be off: another machine may sum in another order, which
        now and then decides about an image."""
        return 1e-2 if self.task.config.dtype == "float32" else 5e-2
