"""Arrays of a mesh on the host of the process that writes, a layer at a time."""

import functools
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ofmu_jax.parallel.distributed import is_main

BLOCK = 2**22  # bytes that are gathered at a time, onto every device


def spread(tree: Any) -> bool:
    """Whether some leaf lies on the devices of several processes."""
    return any(
        isinstance(x, jax.Array) and not x.is_fully_addressable
        for x in jax.tree.leaves(tree)
    )


def to_main(x: Any, layer: int | None, out: np.ndarray | None, dtype: np.dtype) -> None:
    """Writes an array, or one layer of a stack, into ``out``, cast to its dtype.

    Of an array that lies on several processes each has to ask, in the same order, and
    process 0 alone gets it; devices get `BLOCK` bytes of it at a time. Of others each
    device's part is fetched by itself, and nothing is gathered on a device.

    Args:
      x: of any shape; its first axis, if it is that of layers, is not cut.
      layer: index into the first axis; None: all of ``x``.
      out: of the shape that is asked for; None in processes that get nothing.
      dtype: of ``out``, which is cast to before anything is sent.
    """
    with np.errstate(over="ignore"):  # who writes it looks
        if not isinstance(x, jax.Array):
            assert out is not None
            out[...] = x if layer is None else x[layer]
        elif x.is_fully_addressable:
            assert out is not None
            _from_parts(x, layer, out)
        else:
            _gathered(x, layer, out, dtype)


def _from_parts(x: jax.Array, layer: int | None, out: np.ndarray) -> None:
    for shard in x.addressable_shards:
        if shard.replica_id:
            continue
        if layer is None:
            out[shard.index] = shard.data
            continue
        first, stop, _ = shard.index[0].indices(x.shape[0])
        if first <= layer < stop:
            out[shard.index[1:]] = _layer_of(shard.data, layer - first)


def _gathered(
    x: jax.Array, layer: int | None, out: np.ndarray | None, dtype: np.dtype
) -> None:
    sharding, axes = x.sharding, 0 if layer is None else 1
    if not isinstance(sharding, NamedSharding) or any(sharding.spec[:axes]):
        raise ValueError(
            f"an array with {sharding} cannot be gathered by layers; place parameters "
            "with ofmu_jax.parallel.sharding.place."
        )
    shape, spec = x.shape[axes:], PartitionSpec(*sharding.spec[axes:])
    there = NamedSharding(sharding.mesh, spec)
    rows = there.shard_shape(shape)[0]
    parts = shape[0] // rows
    size = parts * math.prod(shape[1:]) * dtype.itemsize  # of a row of every part
    most = max(1, BLOCK // size)
    data = [shard.data for shard in x.addressable_shards]
    data = data if layer is None else [_layer_of(y, layer) for y in data]
    for start in range(0, rows, most):
        stop = min(start + most, rows)
        pieces = [_rows_of(y, start, stop - start).astype(dtype) for y in data]
        block = jax.make_array_from_single_device_arrays(
            (parts * (stop - start), *shape[1:]), there, pieces
        )
        whole = jax.block_until_ready(_replicate(sharding.mesh)(block))
        if not is_main():
            continue
        assert out is not None
        found = np.split(np.asarray(whole.addressable_data(0)), parts)
        for part, piece in enumerate(found):
            out[part * rows + start : part * rows + stop] = piece


# Where they begin is an argument of what is compiled: once for all layers and blocks.


def _layer_of(x: jax.Array, layer: int) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(x, layer, keepdims=False)


def _rows_of(x: jax.Array, start: int, count: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x, start, count)


@functools.lru_cache(maxsize=8)
def _replicate(mesh: Mesh) -> Any:
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=whole)
