"""Meshes, processes and what lies where."""

from typing import TYPE_CHECKING

from ofmu_jax._lazy import submodules

if TYPE_CHECKING:  # what checkers and editors see
    from ofmu_jax.parallel import distributed as distributed
    from ofmu_jax.parallel import failure as failure
    from ofmu_jax.parallel import gathering as gathering
    from ofmu_jax.parallel import sharding as sharding
else:
    __getattr__, __dir__ = submodules(__name__)
