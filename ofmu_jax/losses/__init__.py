"""Losses: pure functions of parameters and one batch, scalars that are batch means.

One module a family; `losses.likelihood` has the common ones. Unless a docstring says
otherwise a loss is to be minimised and averages over answer tokens alone.
"""

from ofmu_jax._lazy import submodules

__getattr__ = submodules(__name__)
