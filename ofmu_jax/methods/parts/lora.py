"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685)."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ofmu_jax._trees import name_of
from ofmu_jax.methods.base import Params
from ofmu_jax.methods.parts.subset import check_pattern, matching
from ofmu_jax.models.llama.adapters import Adapter as Adapter
from ofmu_jax.models.llama.adapters import merged, with_adapters
from ofmu_jax.models.llama.nf4 import is_nf4


@dataclasses.dataclass(frozen=True)
class Lora:
    r"""Adapters W + (α / r) A B in place of training W itself.

    A starts Gaussian with variance 1 / in, B at zero, so that the model starts as it
    was. ``targets`` is a regular expression that the paths of the matrices match (see
    `Subset`); each has the shape (…, in, out).

    Args:
      rank: r.
      alpha: α.
      targets: by default the projections of attention and MLP of our Llama.
      dtype: of the adapters; float32 becomes wider with the matrix.

    >>> lora = Lora(rank=1, alpha=2.0, targets="w")
    >>> adapters, fixed = lora.split({"w": jnp.ones((2, 3)), "c": 4.0})
    >>> jax.tree.map(jnp.shape, adapters)
    {'c': None, 'w': Adapter(a=(2, 1), b=(1, 3))}
    >>> changed = Adapter(jnp.array([[1.0], [0.0]]), jnp.array([[0.0, 0.0, 5.0]]))
    >>> print(lora.merge({"c": None, "w": changed}, fixed)["w"])
    [[ 1.  1. 11.]
     [ 1.  1.  1.]]

    Raises:
      ValueError: for a rank below 1, an alpha that is not above 0 or not finite, or
        what is no regular expression.
    """

    rank: int
    alpha: float = 16.0
    targets: str = "_proj/kernel$"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank={self.rank} must be at least 1.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha={self.alpha} must be above 0 and finite.")
        check_pattern(self.targets)

    @property
    def scale(self) -> float:
        """α / r."""
        return self.alpha / self.rank

    def split(self, params: Params, key: jax.Array | None = None) -> tuple[Any, Params]:
        """(adapters, fixed): an `Adapter` for each target, None for the others; and
        ``params`` themselves, which stay fixed.

        Args:
          params: or their shapes, as `jax.ShapeDtypeStruct`.
          key: of A; default: that of seed 0.

        Raises:
          ValueError: if no path matches, or one that is no matrix does.
        """
        key = jax.random.key(0) if key is None else key
        chosen = jax.tree_util.tree_leaves(matching(params, self.targets))
        numbers = iter(range(len(chosen)))

        def one(path: Any, w: Any) -> Adapter | None:
            number = next(numbers)
            if not chosen[number]:
                return None
            if len(w.shape) < 2:
                raise ValueError(
                    f"{name_of(path)} has shape {tuple(w.shape)}, and an adapter is of "
                    "a matrix; choose targets that match matrices alone."
                )
            return self._begun(w, jax.random.fold_in(key, number))

        found = jax.tree_util.tree_map_with_path(one, params, is_leaf=is_nf4)
        return found, params

    def merge(self, trainable: Any, fixed: Params) -> Params:
        """The parameters ``fixed`` with these adapters added, in their own dtypes.

        Leaves without an adapter are those of ``fixed``, not copies.
        """

        def add(w: Any, adapter: Adapter | None) -> Any:
            return w if adapter is None else merged(w, adapter, self.scale)

        return jax.tree.map(add, fixed, trainable)

    def _begun(self, w: Any, key: jax.Array) -> Adapter:
        *stack, rows, columns = w.shape
        dtype = jnp.dtype(self.dtype)
        if dtype == jnp.float32:
            dtype = jnp.promote_types(w.dtype, dtype)
        a = jax.random.normal(key, (*stack, rows, self.rank), dtype) * rows**-0.5
        return Adapter(a, jnp.zeros((*stack, self.rank, columns), dtype))


@dataclasses.dataclass(frozen=True)
class Unmerged(Lora):
    """Adapters that stay beside kernels, which may be in NF4 (QLoRA, Dettmers et al.
    2023, arXiv 2305.14314).

    `merge` gives what the forward pass of a model of `Projection` takes; no weight is
    changed or copied.
    """

    def split(self, params: Params, key: jax.Array | None = None) -> tuple[Any, Params]:
        """As `Lora.split`.

        Raises:
          ValueError: also if what is no kernel of a projection matches.
        """
        adapters, fixed = super().split(params, key)
        leaf = lambda x: isinstance(x, Adapter)
        for path, _ in jax.tree.leaves_with_path(adapters, is_leaf=leaf):
            if not name_of(path).endswith("/kernel"):
                raise ValueError(
                    f"{name_of(path)} is no kernel of a projection, and an adapter "
                    "can stay beside no other; choose targets among those."
                )
        return adapters, fixed

    def merge(self, trainable: Any, fixed: Params) -> Params:
        """``fixed`` with the adapters beside its kernels (`with_adapters`)."""
        return with_adapters(trainable, fixed, self.scale)
