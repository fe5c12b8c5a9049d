"""Flax models: the Llama family, and Hugging Face folders in and out."""

from ofmu_jax._lazy import submodules

__getattr__ = submodules(__name__)
