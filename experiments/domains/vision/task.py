"""A classifier with its data: sets, streams, predictions, checks, the forget target."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from experiments.config.vision import Cifar
from ofmu_jax.data.streams import named
from ofmu_jax.data.vision.batches import image_batches
from ofmu_jax.data.vision.images import ImageSet, Labelled
from ofmu_jax.data.vision.split import Split
from ofmu_jax.methods.vision.classifier import Prepare
from ofmu_jax.methods.vision.setting import Setting
from ofmu_jax.models import resnet
from ofmu_jax.models.resnet import ResNetConfig, Variables
from ofmu_jax.unlearning.vision.look import label_nll, probabilities


@dataclasses.dataclass(frozen=True)
class VisionTask:
    """What does not change from stage to stage."""

    run: Cifar  # resolved
    data: ImageSet
    split: Split

    @functools.cached_property
    def config(self) -> ResNetConfig:
        data = self.data
        return ResNetConfig(
            self.run.model, data.num_classes, data.mean, data.std, self.run.dtype
        )

    @functools.cached_property
    def sets(self) -> dict[str, Labelled]:
        """The images of each part of the split; ``train`` is forget and retain, and
        ``adjacent``, where there are some, is a part of ``test``."""
        names = ("train", "forget", "retain", "validation")
        parts = {n: self.data.train.take(getattr(self.split, n)) for n in names}
        parts["test"] = test = self.data.test.take(self.split.test)
        if self.split.adjacent:
            near = np.flatnonzero(np.isin(test.labels, self.split.adjacent))
            parts["adjacent"] = test.take(near)
        return parts

    @functools.cached_property
    def content(self) -> str:
        """SHA-256 of all images and labels of the run."""
        digest = hashlib.sha256()
        for part in self.sets.values():
            digest.update(np.ascontiguousarray(part.images).tobytes())
            digest.update(part.labels.tobytes())
        return digest.hexdigest()

    @property
    def batch_size(self) -> int:
        assert self.run.batch_size is not None
        return self.run.batch_size

    @property
    def budget(self) -> float:
        """Gradients of one batch that every method may take."""
        assert self.run.unlearn_epochs is not None
        batches = self.run.unlearn_epochs * len(self.sets["train"]) / self.batch_size
        return float(max(1, math.ceil(batches)))

    def init_variables(self, seed: int) -> Variables:
        """A freshly initialised network."""
        init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
        return init(self.config, jax.random.key(seed), self.data.image_size)

    def setting(self, seed: int, forget_target: float | None = None) -> Setting:
        """What every method of one seed is given."""
        data = self.data
        return Setting(
            self.config,
            Prepare(data.num_classes, data.crop_padding, data.flip),
            self.sets["forget"],
            self.sets["retain"],
            self.batch_size,
            self.budget,
            seed,
            forget_target,
        )

    def training_stream(self, part: Labelled, seed: int) -> Iterator[Any]:
        """Batches of the original's or the retrained model's training."""
        batches = image_batches([(part, False)], self.batch_size, seed)
        return named(batches, "retain")

    def probabilities(
        self, config: ResNetConfig, variables: Variables, part: Labelled
    ) -> np.ndarray:
        """Class probabilities (N, C) in evaluation mode."""
        size = self.run.eval_batch_size
        return probabilities(config, variables, part, size)

    def mean_nll(
        self, config: ResNetConfig, variables: Variables, part: Labelled
    ) -> float:
        """Mean NLL of the labels in evaluation mode, in nats."""
        return float(
            label_nll(self.probabilities(config, variables, part), part).mean()
        )
