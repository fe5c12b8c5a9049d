"""How models are scored and asked: what a task needs to know of an evaluation."""

import dataclasses
from typing import Protocol

from ofmu_jax.data.language.padding import InteriorEot


class Conventions(Protocol):
    """How models are scored and asked."""

    @property
    def batch_size(self) -> int:
        """Texts that are scored or written at once."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Of an answer."""
        ...

    @property
    def interior_eot(self) -> InteriorEot:
        """Which keys are hidden, see `padding.pad_right`."""
        ...


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How models are scored and asked, as the commands do."""

    batch_size: int = 64
    max_new_tokens: int = 200
    interior_eot: InteriorEot = "correct"
    prefix_tokens: int = 50  # of a document's block, that a model continues
