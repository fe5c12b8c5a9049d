"""What an attack on a classifier is given.

A model under attack is an `Attacked` whose subject is the network, a `ResNetConfig`,
and whose parameters are `Variables`.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from ofmu_jax.attacks.base import Attacked
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.evals.vision.metrics import probabilities
from ofmu_jax.models import resnet
from ofmu_jax.models.resnet import ResNetConfig, Variables


class Images(NamedTuple):
    """What an attacker may have."""

    forget: Labelled  # some may be taught, the others are scored
    retain: Labelled
    batch_size: int = 256  # of scores

    @property
    def scored(self) -> Labelled:
        """The most that is scored."""
        return self.forget


def network(model: Attacked) -> ResNetConfig:
    """The network of a model under attack: its subject, with the classes of its head.

    A method may have added one (boundary expanding).
    """
    config: Any = model.subject
    classes = model.params.params["head"]["kernel"].shape[-1]
    return dataclasses.replace(config, num_classes=classes)


def answers(
    config: ResNetConfig, variables: Variables, part: Labelled, batch_size: int
) -> np.ndarray:
    """Probabilities of the classes for each image, (N, C)."""
    predict = functools.partial(_predict, config, variables)
    return probabilities(predict, part.images, batch_size)


_predict = jax.jit(resnet.predict, static_argnums=0)
