"""How much each attack may spend: one frozen dataclass, the same for all models.

The defaults are the field's, for pretrained models; the text after a field is its help.
"""

import dataclasses
from typing import Annotated

from ofmu_jax.bounds import Bound, NotNegativeInt, Positive

Share = Annotated[float, Bound(0, 1, above=True, below=True)]


@dataclasses.dataclass(frozen=True)
class Budget:
    """Budgets of the attacks, the same for every model."""

    seed: NotNegativeInt = 0
    """Of the order of rows, draws and adapters."""
    prune_shares: tuple[Share, ...] = (0.1, 0.2, 0.3)
    """Of each matrix: its smallest weights, set to zero."""
    relearn_rate: Positive = 2e-5
    """Learning rate of relearning, at its start."""
