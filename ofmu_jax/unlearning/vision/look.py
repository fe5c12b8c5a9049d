"""The look at how far a classifier has come: NLL and accuracy on its own images."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.evals.vision import metrics
from ofmu_jax.models import resnet
from ofmu_jax.models.resnet import ResNetConfig, Variables


class Look:
    """NLL and accuracy on forget and retain images, for the stopping rule.

    Args:
      config: the network.
      sets: the images, ``forget`` and ``retain``; of each at most ``rows``.
      batch_size: images that are looked at at once.
    """

    def __init__(
        self,
        config: ResNetConfig,
        sets: Mapping[str, Labelled],
        rows: int,
        batch_size: int,
    ):
        self.config, self.batch_size = config, batch_size
        some = lambda part: part.take(evenly_spaced(len(part), rows))
        self.sets = {name: some(sets[name]) for name in ("forget", "retain")}

    def __call__(self, variables: Variables) -> Mapping[str, float]:
        values = {}
        for name, part in self.sets.items():
            try:
                p = probabilities(self.config, variables, part, self.batch_size)
            except EvaluationError:  # diverged: the loop ends at a value not finite
                values |= {f"{name}_nll": math.nan, f"{name}_accuracy": math.nan}
                continue
            values[f"{name}_nll"] = float(label_nll(p, part).mean())
            values[f"{name}_accuracy"] = metrics.accuracy(p, part.labels)
        return values


def probabilities(
    config: ResNetConfig, variables: Variables, part: Labelled, batch_size: int
) -> np.ndarray:
    """Class probabilities (N, C) in evaluation mode."""
    predict = functools.partial(predictor(config), variables)
    return metrics.probabilities(predict, part.images, batch_size)


@functools.cache
def predictor(config: ResNetConfig) -> Any:
    """(variables, images) -> logits, compiled once per network and shape."""
    return jax.jit(functools.partial(resnet.predict, config))


def label_nll(p: np.ndarray, part: Labelled) -> np.ndarray:
    """−log of each label's probability, (N,); at most 69 nats, as p ≥ 1e-30."""
    return -np.log(np.maximum(p[np.arange(len(p)), part.labels], 1e-30))
