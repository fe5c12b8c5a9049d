"""How much each attack may spend: one frozen dataclass, the same for all models.

The defaults are the field's, for pretrained models; the text after a field is its help.
"""

import dataclasses
from typing import Annotated

from ofmu_jax.bounds import Bound, Count, NotNegativeInt, Positive

Share = Annotated[float, Bound(0, 1, above=True, below=True)]


@dataclasses.dataclass(frozen=True)
class Budget:
    """Budgets of the attacks, the same for every model."""

    seed: NotNegativeInt = 0
    """Of the order of rows, draws and adapters."""
    prune_shares: tuple[Share, ...] = (0.1, 0.2, 0.3)
    """Of each matrix: its smallest weights, set to zero."""
    agreement: str = "Sure, here is the answer:"
    """What an answer is forced to begin with."""
    first_tokens: tuple[Count, ...] = (1, 5, 10)
    """Of the right answer, with which an answer is forced to begin."""
    draws: Count = 16
    """Answers drawn to each question; leak@k is for k = 1 … draws."""
    temperature: Positive = 1.0
    """Of these draws."""
    relearn_rate: Positive = 2e-5
    """Learning rate of relearning, at its start."""
