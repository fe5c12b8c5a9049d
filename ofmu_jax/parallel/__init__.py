"""Meshes, processes and what lies where."""

from ofmu_jax._lazy import submodules

__getattr__ = submodules(__name__)
