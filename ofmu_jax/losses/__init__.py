"""Losses: pure functions of parameters and one batch, scalars that are batch means.

One module a family; `losses.likelihood` has the common ones. Unless a docstring says
otherwise a loss is to be minimised and averages over answer tokens alone.
"""

from typing import TYPE_CHECKING

from ofmu_jax._lazy import submodules

if TYPE_CHECKING:  # what checkers and editors see
    from ofmu_jax.losses import accumulation as accumulation
    from ofmu_jax.losses import bounded as bounded
    from ofmu_jax.losses import distillation as distillation
    from ofmu_jax.losses import likelihood as likelihood
    from ofmu_jax.losses import margin as margin
    from ofmu_jax.losses import preference as preference
    from ofmu_jax.losses import representation as representation
    from ofmu_jax.losses import reweighted as reweighted
    from ofmu_jax.losses import tokens as tokens
    from ofmu_jax.losses import vision as vision
else:
    __getattr__, __dir__ = submodules(__name__)
