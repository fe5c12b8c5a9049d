"""Projections that take low-rank adapters beside their kernel, and kernels in NF4.

x W + (α / r) (x A) B needs neither W + (α / r) A B nor the gradient of it in memory;
both have the size of all the kernels, layers being stacked. A W in NF4 is made dense
where it is used, one at a time.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.nf4 import Nf4

_BESIDE = ("kernel_a", "kernel_b")  # names of what lies beside a kernel


class Adapter(NamedTuple):
    """The change of one matrix, (α / r) A B; ``…`` are axes before it, such as layers.

    Both are float32, or wider if the matrix is; bfloat16 where that is asked for.
    """

    a: jax.Array  # shape=(…, in, r)
    b: jax.Array  # shape=(…, r, out)


class Projection(nn.Dense):
    """A dense layer, to whose result `with_adapters` may have added (x A) B.

    Its kernel may be an `nf4.Nf4`.
    """

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        # As one matrix: on a CPU the gradient of others is computed by way of copies.
        rows = inputs.reshape(-1, inputs.shape[-1])
        kernel = self.get_variable("params", "kernel")  # None where it is to be made
        if isinstance(kernel, Nf4):
            y = self._of_codes(rows, kernel)
        else:
            y = super().__call__(rows)
        if self.has_variable("params", _BESIDE[0]):
            a, b = (self.get_variable("params", name) for name in _BESIDE)
            y += (rows.astype(y.dtype) @ a.astype(y.dtype)) @ b.astype(y.dtype)
        return y.reshape(*inputs.shape[:-1], y.shape[-1])

    def _of_codes(self, rows: jax.Array, kernel: Nf4) -> jax.Array:
        y = nf4.product(rows.astype(self.dtype), kernel)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,))
            y += bias.astype(y.dtype)
        return y


def with_adapters(adapters: Any, params: Any, scale: float) -> Any:
    """Parameters of a model of `Projection`, with the adapters of its kernels.

    Kernels in NF4 stay so.

    Args:
      adapters: as `ofmu_jax.methods.Lora.split` makes them.
      params: nested mappings; ``kernel`` gets the neighbours ``kernel_a``, A, and
        ``kernel_b``, B times ``scale``. Adapters of anything else, such as an
        embedding, are added to it.
      scale: α / r.
    """
    if not isinstance(params, Mapping):
        return params
    found: dict[str, Any] = {}
    for name, value in params.items():
        adapter = adapters[name]
        if not isinstance(adapter, Adapter):
            found[name] = with_adapters(adapter, value, scale)
        elif name == "kernel":
            found[name] = value
            found |= zip(_BESIDE, (adapter.a, scale * adapter.b), strict=True)
        else:
            found[name] = merged(value, adapter, scale)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Merged:
    """Kernels (layers, in, out) with their adapters merged, as an export reads them.

    Indexed by a layer it gives that one, dense: no two are at a time. It is a leaf.
    """

    kernel: Any  # as in the parameters: an array or an `Nf4`
    adapter: Adapter | None  # B times the scale

    @property
    def shape(self) -> tuple[int, ...]:
        return self.kernel.shape

    @property
    def dtype(self) -> Any:
        return _wide(self.kernel)

    def __getitem__(self, layer: int) -> jax.Array:
        kernel, adapter = jax.tree.map(lambda x: x[layer], (self.kernel, self.adapter))
        if isinstance(kernel, Nf4):
            kernel = nf4.dequantize(kernel)
        kernel = kernel.astype(self.dtype)
        return kernel if adapter is None else merged(kernel, adapter, 1.0)


def merging(params: Any) -> Any:
    """Parameters with a `Merged` for every kernel in NF4 or with an adapter beside it.

    The names are those of a dense model without adapters.
    """
    if not isinstance(params, Mapping):
        return params
    found = {k: merging(v) for k, v in params.items() if k not in _BESIDE}
    if isinstance(params.get("kernel"), Nf4) or _BESIDE[0] in params:
        factors = [params[name] for name in _BESIDE if name in params]
        found["kernel"] = Merged(
            params["kernel"], Adapter(*factors) if factors else None
        )
    return found


def beside(params: Any, scale: float) -> Any:
    """The adapters that `with_adapters` has put beside kernels; None for other leaves.

    Args:
      scale: as there; B is divided by it.
    """
    if not isinstance(params, Mapping):
        return None
    found = {k: beside(v, scale) for k, v in params.items() if k not in _BESIDE}
    if _BESIDE[0] in params:
        a, b = (params[name] for name in _BESIDE)
        a, b = (jnp.astype(x, _wide(x)) for x in (a, b))
        found["kernel"] = Adapter(a, b / scale)
    return found


@jax.jit
def merged(w: jax.Array, adapter: Adapter, scale: float) -> jax.Array:
    """W + ``scale`` A B in the dtype of W; added in float32 or wider."""
    a, b = (x.astype(_wide(x)) for x in adapter)
    return (w + scale * jnp.matmul(a, b, precision="highest")).astype(w.dtype)


def _wide(x: Any) -> Any:
    return jnp.promote_types(x.dtype, jnp.float32)
