"""One mesh for everything: where parameters, their states and the batches lie.

The mesh has three axes. Rows of a batch are spread over ``data`` and ``fsdp``;
parameters, and whatever has their shape (optimizer states, a frozen copy), over
``fsdp`` and ``tensor``. The step itself knows nothing of it: XLA computes the same
function of the global batch wherever the arrays lie, so that norms and cosines are
those of whole gradients, and sums differ in their order only.

Where a tensor lies follows from its path:

- A rule of `RULES` that matches names the axes of its last dimensions; dimensions
  before them, such as the stack of layers, are not cut.
- An axis that does not divide its dimension is left out there. Has ``fsdp`` lost its
  place so, it goes to the largest of the rule's free dimensions that it divides.
- Without a rule, ``fsdp`` goes to the largest dimension that it divides; vectors and
  scalars are replicated.
- What is left without an axis is replicated; `replicated` lists it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ofmu_jax._trees import name_of as name_of

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")  # the axes that rows of a batch are spread over

Axes = tuple[str | None, ...]

RULES: tuple[tuple[str, Axes], ...] = (
    (r"(q|k|v|gate|up)_proj/kernel(/codes|/scales)?$", ("fsdp", "tensor")),
    (r"(o|down)_proj/kernel(/codes|/scales)?$", ("tensor", "fsdp")),  # NF4: as dense
    (r"(q|k|v|gate|up)_proj/bias$", ("tensor",)),
    (r"(q|k|v|gate|up)_proj/kernel[/_]a$", ("fsdp", None)),  # adapters: as the kernel
    (r"(q|k|v|gate|up)_proj/kernel[/_]b$", (None, "tensor")),
    (r"(o|down)_proj/kernel[/_]a$", ("tensor", None)),
    (r"(o|down)_proj/kernel[/_]b$", (None, "fsdp")),
    (r"(embed_tokens/embedding|lm_head)$", ("tensor", "fsdp")),
    (r"(norm/scale|_proj/bias)$", (None,)),
)


class MeshError(ValueError):
    """A mesh that cannot be made, or that a size does not fit; says what to do."""


# --- the mesh ---------------------------------------------------------------------


def parse_mesh(text: str) -> dict[str, int]:
    """Sizes of all three axes; those that are not named are 1, −1 is "the rest".

    >>> parse_mesh("fsdp=4,tensor=2")
    {'data': 1, 'fsdp': 4, 'tensor': 2}
    """
    sizes = dict.fromkeys(AXES, 1)
    named = set()
    for part in text.replace(" ", "").split(","):
        name, _, size = part.partition("=")
        if name not in AXES or name in named:
            what = "named twice" if name in named else "unknown"
            raise MeshError(
                f"the mesh axis {name!r} in {text!r} is {what}; give some of "
                "data=N,fsdp=N,tensor=N, each once."
            )
        named.add(name)
        try:
            sizes[name] = int(size)
        except ValueError:
            sizes[name] = 0
        if sizes[name] < 1 and sizes[name] != -1:
            raise MeshError(
                f"the mesh axis {part!r} needs a number of devices, at least 1, or −1 "
                "for those that are left."
            )
    return sizes


def make_mesh(
    spec: str | Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh of a text such as ``"data=2,fsdp=2,tensor=2"``.

    Args:
      spec: the text, or the sizes by name. One size may be −1: the devices left.
      devices: all devices of the job by default, over all its processes.

    Raises:
      MeshError: for an unknown axis, a product that is not the device count, or sizes
        that a TPU slice cannot be cut into.
    """
    sizes = parse_mesh(spec) if isinstance(spec, str) else dict(spec)
    sizes = {axis: sizes.get(axis, 1) for axis in AXES}
    devices = jax.devices() if devices is None else list(devices)
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    rest, left_over = divmod(
        len(devices), math.prod(n for n in sizes.values() if n > 0)
    )
    if len(open_axes) == 1 and rest and not left_over:
        sizes[open_axes[0]] = rest
    if math.prod(sizes.values()) != len(devices) or -1 in sizes.values():
        product = " × ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise MeshError(
            f"the mesh {product} does not use the {len(devices)} devices of this job "
            "exactly; change a size, or give one of them as −1."
        )
    kinds = (AxisType.Auto,) * len(AXES)
    try:
        return jax.make_mesh(tuple(sizes.values()), AXES, kinds, devices=devices)
    except NotImplementedError as error:  # some TPU slices have no such cut
        raise MeshError(
            f"the devices are not wired so that they make a mesh of {sizes}: {error} "
            "Choose sizes that are products of the slice's own, such as fsdp=-1."
        ) from error


# --- where a tree lies ------------------------------------------------------------


def partition_spec(path: str, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """Where the tensor at ``path`` (names joined by ``/``) of this shape lies.

    >>> mesh = make_mesh("fsdp=-1")
    >>> path = "layers/attention/q_proj/kernel"  # stacked over 3 layers
    >>> tuple(partition_spec(path, (3, 64, 7), mesh))  # tensor=1 divides 7
    (None, 'fsdp', 'tensor')
    """
    wanted = _rule(path, len(shape))
    if wanted is None:
        if len(shape) < 2:
            return PartitionSpec()
        found = _with_fsdp([None] * len(shape), shape, mesh)
        return PartitionSpec(*found)
    sizes = shape[len(shape) - len(wanted) :]
    fits = lambda axis, size: axis is not None and size % mesh.shape[axis] == 0
    kept: list[str | None] = [
        axis if fits(axis, size) else None
        for axis, size in zip(wanted, sizes, strict=True)
    ]
    if "fsdp" in wanted and "fsdp" not in kept:
        kept = _with_fsdp(kept, sizes, mesh)
    return PartitionSpec(*[None] * (len(shape) - len(wanted)), *kept)


def _rule(path: str, ndim: int) -> Axes | None:
    """The axes that a rule names, if the tensor has dimensions for them."""
    for pattern, axes in RULES:
        if re.search(pattern, path) and len(axes) <= ndim:
            return axes
    return None


def _with_fsdp(
    axes: Sequence[str | None], sizes: Sequence[int], mesh: Mesh
) -> list[str | None]:
    """The axes with fsdp on the largest free dimension that it divides."""
    free = [
        (size, place)
        for place, (axis, size) in enumerate(zip(axes, sizes, strict=True))
        if axis is None and size % mesh.shape["fsdp"] == 0
    ]
    found = list(axes)
    if free:
        found[max(free)[1]] = "fsdp"
    return found


def shardings(tree: Any, mesh: Mesh) -> Any:
    """A `NamedSharding` for every leaf of parameters or of a state of theirs."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: NamedSharding(
            mesh, partition_spec(name_of(path), x.shape, mesh)
        ),
        tree,
    )


def outline(shapes: Any, mesh: Mesh) -> Any:
    """The shapes (`jax.ShapeDtypeStruct`) with where each lies."""
    lie = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
    return jax.tree.map(lie, shapes, shardings(shapes, mesh))


def replicated(tree: Any, mesh: Mesh) -> list[str]:
    """Paths of matrices that lie whole on every device, though the mesh has axes."""
    if all(mesh.shape[axis] == 1 for axis in ("fsdp", "tensor")):
        return []
    found = []
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        name = name_of(path)
        meant_whole = x.ndim < 2 or _rule(name, x.ndim) == (None,)
        axes = [a for a in partition_spec(name, x.shape, mesh) if a is not None]
        if not meant_whole and all(mesh.shape[a] == 1 for a in axes):
            found.append(name)
    return found


def place(tree: Any, mesh: Mesh) -> Any:
    """The tree on the mesh; every process gives the same values.

    A leaf that lies on a device of the mesh already may share its memory there: copy
    what is to be donated, as `training.run` does.
    """
    return jax.tree.map(put, tree, shardings(tree, mesh))


def put(x: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array where ``sharding`` says; every process gives the same whole one."""
    on_all = isinstance(x, jax.Array) and not x.is_fully_addressable
    if sharding.is_fully_addressable or on_all:
        return jax.device_put(x, sharding)
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
