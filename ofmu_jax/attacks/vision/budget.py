"""How much each attack on classifiers may spend, the same for all models.

The text after a field is its help.
"""

import dataclasses
from typing import Annotated

from ofmu_jax.bounds import Bound, Count, NotNegativeInt, Positive


@dataclasses.dataclass(frozen=True)
class Budget:
    """Budgets of the attacks, the same for every model."""

    seed: NotNegativeInt = 0
    """Of the choice of images and their order."""
    relearn_images: tuple[Count, ...] = (1, 2, 5, 10)
    """Images a class that are taught, a training for each number; of no class more
    than half."""
    relearn_updates: Count = 50
    """Of each training."""
    relearn_rate: Positive = 0.01
    """Learning rate of its SGD with momentum 0.9."""
    relearn_batch: Annotated[int, Bound(2)] = 32
    """Images of an update; few are repeated within one."""
