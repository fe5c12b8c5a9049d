"""Batches and methods on a mesh (`parallel.sharding`), of one process or of several.

::

    mesh = make_mesh("data=2,fsdp=4")
    stream = placed(paired_batches(..., shard=host_shard(mesh)), mesh)
    training.run(on_mesh(method, mesh), place(params, mesh), stream, num_updates=100)
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ofmu_jax._trees import name_of
from ofmu_jax.data.language.batches import Shard
from ofmu_jax.data.streams import Mapped
from ofmu_jax.methods import traced
from ofmu_jax.methods.base import Method
from ofmu_jax.parallel.sharding import ROWS, MeshError, put, shardings


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


def shard_of(devices: Iterable[jax.Device], mesh: Mesh) -> Shard:
    """The blocks of a batch's rows that these devices of the mesh hold together.

    >>> from ofmu_jax.parallel.sharding import make_mesh
    >>> mesh = make_mesh("data=2,fsdp=2,tensor=2")
    >>> shard_of(mesh.devices[:, 1].flat, mesh)
    Shard(blocks=(1, 3), count=4)
    """
    count = row_parts(mesh)
    rows_of = row_sharding(mesh).devices_indices_map((count,))
    held = {rows_of[device][0].start or 0 for device in devices}  # None: one block
    return Shard(tuple(sorted(held)), count)


def host_shard(mesh: Mesh) -> Shard:
    """Which blocks of a batch's rows this process has to make.

    ``shard`` of `data.language.batches.paired_batches`. Any order of the devices will
    do: that of a TPU slice follows its wires, so that a process's blocks lie apart.
    Processes that hold the same block, as where ``tensor`` spans several, make the
    same rows.
    """
    return shard_of(mesh.local_devices, mesh)


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
    """Stacked batches, leaves (S, b, …) of this process's rows, on the mesh.

    The rows are those of `host_shard`, block after block.

    Raises:
      MeshError: if data × fsdp does not divide the rows of all processes together.
    """
    blocks, count = host_shard(mesh)

    def one(path: Any, x: Any) -> jax.Array:
        x = np.asarray(x)
        if name_of(path).endswith("draw"):  # the numbers of a random draw, not rows
            return put(x, NamedSharding(mesh, PartitionSpec()))
        # Rounded down, it is a multiple of count only if len(blocks) divides x's rows.
        shape = (x.shape[0], x.shape[1] * count // len(blocks), *x.shape[2:])
        check_rows(shape[1], mesh, "the batch size")
        # Cuts x into blocks by the order of their places in the batch, gaps or not.
        return jax.make_array_from_process_local_data(
            row_sharding(mesh, before=1), x, shape
        )

    return jax.tree_util.tree_map_with_path(one, batches)


def placed(stream: grain.DatasetIterator, mesh: Mesh) -> Mapped:
    """A stream of stacked batches, each put on the mesh by `place_batches`."""
    return Mapped(stream, lambda batches: place_batches(batches, mesh))


def on_mesh(method: Method, mesh: Mesh) -> Method:
    """The method with its state on the mesh, and its results where they came from.

    What an update returns lies as its arguments did, so that donated buffers can be
    used again. Of methods that differ in numbers alone it is compiled once.
    """
    return method._replace(
        init=traced.around(method.init, lambda init: _init_on(mesh, init)),
        update=traced.around(method.update, lambda update: _update_on(mesh, update)),
    )


@functools.lru_cache(maxsize=traced.PROGRAMS)
def _init_on(mesh: Mesh, init: Callable[..., Any]) -> Callable[..., Any]:
    def placed_init(*params: Any, **numbers: Any) -> Any:
        state = jax.eval_shape(init, *params, **numbers)
        placed = jax.jit(init, out_shardings=shardings(state, mesh))
        return placed(*params, **numbers)

    return placed_init


@functools.lru_cache(maxsize=traced.PROGRAMS)
def _update_on(mesh: Mesh, update: Callable[..., Any]) -> Callable[..., Any]:
    def placed_update(*arguments: Any, **numbers: Any) -> Any:
        params, state, metrics = update(*arguments, **numbers)
        whole = NamedSharding(mesh, PartitionSpec())
        kept = (shardings(params, mesh), shardings(state, mesh))
        kept += (jax.tree.map(lambda _: whole, metrics),)
        return jax.lax.with_sharding_constraint((params, state, metrics), kept)

    return placed_update
