"""What an attack on a classifier is given, and what it may spend."""

import dataclasses
from typing import Annotated, NamedTuple

from ofmu_jax.bounds import Bound, Count, NotNegativeInt, Positive
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.models.resnet import ResNetConfig, Variables


@dataclasses.dataclass(frozen=True)
class Budget:
    """Budgets of the attacks, the same for every model."""

    seed: NotNegativeInt = 0
    """Of the choice of images and their order."""
    relearn_images: tuple[Count, ...] = (1, 5, 10, 25)
    """Images a class that are taught, a training for each number; of no class more
    than half."""
    relearn_updates: Count = 50
    """Of each training."""
    relearn_rate: Positive = 0.01
    """Learning rate of its SGD with momentum 0.9."""
    relearn_batch: Annotated[int, Bound(2)] = 32
    """Images of an update; few are repeated within one."""


class Attacked(NamedTuple):
    """A classifier under attack."""

    config: ResNetConfig
    variables: Variables


class Images(NamedTuple):
    """What an attacker may have."""

    forget: Labelled  # some may be taught, the others are scored
    retain: Labelled
    batch_size: int = 256  # of scores

    @property
    def scored(self) -> Labelled:
        """The most that is scored."""
        return self.forget
