"""Projections that take low-rank adapters beside their kernel.

x W + (α / r) (x A) B needs neither W + (α / r) A B nor the gradient of it in memory;
both have the size of all the kernels, layers being stacked.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Adapter(NamedTuple):
    """The change of one matrix, (α / r) A B; ``…`` are axes before it, such as layers.

    Both are float32, or wider if the matrix is.
    """

    a: jax.Array  # shape=(…, in, r)
    b: jax.Array  # shape=(…, r, out)


class Projection(nn.Dense):
    """A dense layer, to whose result `with_adapters` may have added (x A) B."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        # As one matrix: on a CPU the gradient of others is computed by way of copies.
        rows = inputs.reshape(-1, inputs.shape[-1])
        y = super().__call__(rows)
        if self.has_variable("params", "kernel_a"):
            a, b = (self.get_variable("params", f"kernel_{n}") for n in "ab")
            y += (rows.astype(y.dtype) @ a.astype(y.dtype)) @ b.astype(y.dtype)
        return y.reshape(*inputs.shape[:-1], y.shape[-1])


def with_adapters(adapters: Any, params: Any, scale: float) -> Any:
    """Parameters of a model of `Projection`, with the adapters of its kernels.

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
            found |= {"kernel_a": adapter.a, "kernel_b": scale * adapter.b}
        else:
            found[name] = merged(value, adapter, scale)
    return found


@jax.jit
def merged(w: jax.Array, adapter: Adapter, scale: float) -> jax.Array:
    """W + ``scale`` A B in the dtype of W; added in that of the adapter."""
    product = jnp.matmul(adapter.a, adapter.b, precision="highest")
    return (w + scale * product).astype(w.dtype)
