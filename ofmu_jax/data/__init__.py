"""Question-answer rows, prompts, and minibatches of token ids."""

from ofmu_jax._lazy import submodules

__getattr__ = submodules(__name__)
