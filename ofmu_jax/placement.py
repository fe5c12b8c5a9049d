"""Batches and methods on a mesh (`ofmu_jax.sharding`), of one process or of several.

::

    mesh = make_mesh("data=2,fsdp=4")
    stream = placed(paired_batches(..., shard=host_shard(mesh)), mesh)
    training.run(on_mesh(method, mesh), place(params, mesh), stream, num_updates=100)
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ofmu_jax._trees import name_of
from ofmu_jax.data.streams import Mapped
from ofmu_jax.methods.base import Method
from ofmu_jax.sharding import ROWS, MeshError, put, shardings


def row_sharding(mesh: Mesh, before: int = 0) -> NamedSharding:
    """Rows over data × fsdp, behind ``before`` dimensions that are not cut."""
    return NamedSharding(mesh, PartitionSpec(*[None] * before, ROWS))


def row_parts(mesh: Mesh) -> int:
    """Over how many devices the rows of a batch are spread."""
    return math.prod(mesh.shape[axis] for axis in ROWS)


def check_rows(rows: int, mesh: Mesh, what: str) -> None:
    """Raises MeshError if ``rows`` cannot be spread evenly; ``what`` names them."""
    if rows % row_parts(mesh):
        raise MeshError(
            f"{what} is {rows}, which data × fsdp = {row_parts(mesh)} devices do not "
            f"share evenly; give a multiple of {row_parts(mesh)}."
        )


def host_shard(mesh: Mesh) -> tuple[int, int]:
    """(index, count): which block of a batch's rows this process has to make.

    ``shard`` of `data.batches.paired_batches`. Processes that hold the same rows,
    as where ``tensor`` spans several, have the same index.

    Raises:
      MeshError: if this process's devices do not hold one aligned block of rows.
    """
    parts = row_parts(mesh)
    slices = row_sharding(mesh).addressable_devices_indices_map((parts,)).values()
    held = sorted({int(i) for index in slices for i in np.arange(parts)[index]})
    size = len(held)
    aligned = held == list(range(held[0], held[0] + size)) and not held[0] % size
    if parts % size or not aligned:
        raise MeshError(
            f"this process holds the blocks {held} of {parts} of every batch, which "
            "are not one aligned run; order the devices of the mesh by process."
        )
    return held[0] // size, parts // size


@functools.lru_cache(maxsize=128)
def rows_stay(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    """Keeps the rows of an array (B, …) where those of the batch are.

    For the residual stream of a model. Left to itself XLA may lay it out like the
    table of embeddings, D over fsdp: every device then has all rows, and sums of
    activations travel in place of parameters. Where the devices cannot share the rows
    evenly the array is left alone. Equal arguments give the very object.
    """

    def place(x: jax.Array) -> jax.Array:
        if x.shape[0] % row_parts(mesh):
            return x
        return jax.lax.with_sharding_constraint(x, row_sharding(mesh))

    return place


def place_batches(batches: Any, mesh: Mesh) -> Any:
    """Stacked batches, leaves (S, B, …) of this process's rows, on the mesh.

    Raises:
      MeshError: if data × fsdp does not divide the rows of all processes together.
    """
    count = host_shard(mesh)[1]

    def one(path: Any, x: Any) -> jax.Array:
        x = np.asarray(x)
        if name_of(path).endswith("draw"):  # the numbers of a random draw, not rows
            return put(x, NamedSharding(mesh, PartitionSpec()))
        shape = (x.shape[0], x.shape[1] * count, *x.shape[2:])
        check_rows(shape[1], mesh, "the batch size")
        return jax.make_array_from_process_local_data(
            row_sharding(mesh, before=1), x, shape
        )

    return jax.tree_util.tree_map_with_path(one, batches)


def placed(stream: grain.DatasetIterator, mesh: Mesh) -> Mapped:
    """A stream of stacked batches, each put on the mesh by `place_batches`."""
    return Mapped(stream, lambda batches: place_batches(batches, mesh))


@functools.lru_cache(maxsize=128)
def on_mesh(method: Method, mesh: Mesh) -> Method:
    """The method with its state on the mesh, and its results where they came from.

    What an update returns lies as its arguments did, so that donated buffers can be
    used again. Equal arguments give the very object, compiled once.
    """

    def init(*params: Any) -> Any:
        state = jax.eval_shape(method.init, *params)
        return jax.jit(method.init, out_shardings=shardings(state, mesh))(*params)

    def update(params: Any, state: Any, batches: Any, *fixed: Any) -> Any:
        params, state, metrics = method.update(params, state, batches, *fixed)
        whole = NamedSharding(mesh, PartitionSpec())
        kept = (shardings(params, mesh), shardings(state, mesh))
        kept += (jax.tree.map(lambda _: whole, metrics),)
        return jax.lax.with_sharding_constraint((params, state, metrics), kept)

    return method._replace(init=init, update=update)
