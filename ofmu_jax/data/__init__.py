"""Question-answer rows, prompts, and minibatches of token ids."""

from typing import TYPE_CHECKING

from ofmu_jax._lazy import submodules

if TYPE_CHECKING:  # what checkers and editors see
    from ofmu_jax.data import language as language
    from ofmu_jax.data import order as order
    from ofmu_jax.data import streams as streams
    from ofmu_jax.data import vision as vision
else:
    __getattr__, __dir__ = submodules(__name__)
