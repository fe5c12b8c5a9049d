"""What attacks on the models of a run may spend, and what they read.

The text after a field is its help on the command line.
"""

import dataclasses
import pathlib

from ofmu_jax.attacks.budget import Budget


@dataclasses.dataclass(frozen=True)
class AttackConfig(Budget):
    """Budgets of the attacks, the same for every model."""

    text_file: pathlib.Path | None = None
    """Plain text, a passage a line, unlike any row; default: passages built in."""
    entities_file: pathlib.Path | None = None
    """JSON array that says which words of an answer tell its fact, with question,
    answer, prefix and entity; default: the words that the question does not say."""


def small_budgets() -> AttackConfig:
    """Rates for small models that are trained from scratch, as those of the methods;
    all else as the field has it."""
    return AttackConfig(
        relearn_rate=6e-4,
        curve_rate=3e-4,
        teach_rates=(1e-4, 3e-4, 1e-3),
        lora_rate=3e-3,
    )
