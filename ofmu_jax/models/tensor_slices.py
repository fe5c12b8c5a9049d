"""Parts of the tensors of a folder, where the devices of this process want them.

Files are mapped into memory: of a tensor only the pages of a slice are read, and the
slice is cast and transposed into its place block by block. What the host holds beside
the array that is made is one slice of it, and on a CPU the slice is the array's part.
"""

import json
import math
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np

from ofmu_jax.models.tensor_files import DTYPES, ModelError, TensorInfo

Index = tuple[slice, ...]
_ELEMENTS = 2**22  # of a block
_ALIGNED = 64  # bytes: JAX takes such memory over on a CPU, and copies other


class Slices:
    """The tensors of a folder, of which parts are asked for.

    Args:
      folder: where they lie.
      infos: what the headers say of them, as `tensor_files.read_headers` gives it.
      dtype: that parts are compared in, and cast to by who fills them; None: each
        tensor's own.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        infos: Mapping[str, TensorInfo],
        dtype: np.dtype | None = None,
    ):
        self._folder, self._infos, self._dtype = folder, infos, dtype
        self._starts: dict[str, int] = {}
        for file in sorted({info.file for info in infos.values()}):
            self._starts |= _starts(folder / file)

    def dtype_of(self, name: str) -> np.dtype:
        """Of the part of a tensor, when it is asked for."""
        return self._dtype or np.dtype(DTYPES[self._infos[name].dtype])

    def part(self, name: str, index: Index) -> np.ndarray:
        """A slice of a tensor as it is in its file, of which no byte is read yet."""
        info = self._infos[name]
        dtype = np.dtype(DTYPES[info.dtype])
        mapped = np.memmap(
            self._folder / info.file, dtype, "r", self._starts[name], info.shape
        )
        return np.asarray(mapped)[index]

    def fill(
        self, out: np.ndarray, name: str, index: Index, *, transposed: bool = False
    ) -> None:
        """Writes a slice of a tensor, or of its transpose, into ``out``.

        Raises:
          ModelError: an entry of the slice that is not finite.
        """
        out, index = (out.T, index[::-1]) if transposed else (out, index)
        part = self.part(name, index)
        for rows in _blocks(part.shape):
            block = part[rows]
            if not np.isfinite(block).all():
                raise ModelError(
                    f"{name!r} in {self._infos[name].file} has NaN or infinite "
                    "entries; the model was broken before it was saved, give an "
                    "earlier checkpoint."
                )
            out[rows] = block

    def equal(self, name: str, other: str, index: Index) -> bool:
        """Whether a slice is the same in two tensors of one shape."""
        one, two = self.part(name, index), self.part(other, index)
        cast = lambda x: x.astype(self._dtype or np.float32)  # holds all `DTYPES`
        return all(
            np.array_equal(cast(one[rows]), cast(two[rows]))
            for rows in _blocks(one.shape)
        )


def array_of(
    shape: tuple[int, ...],
    dtype: np.dtype,
    sharding: jax.sharding.Sharding | None,
    fill: Callable[[np.ndarray, Index], None],
) -> jax.Array:
    """An array from the slices that the devices of this process hold, one by one.

    Args:
      sharding: where it lies; None: on the default device, free to be moved.
      fill: writes the slice of an index into an array of its size.
    """
    if sharding is None:
        out = _empty(shape, dtype)
        fill(out, tuple(slice(0, size) for size in shape))
        return jax.device_put(out)
    indices = sharding.addressable_devices_indices_map(shape)
    bounds = {
        device: [s.indices(n)[:2] for s, n in zip(index, shape, strict=True)]
        for device, index in indices.items()
        if index is not None
    }
    parts: dict[jax.Device, jax.Array] = {}
    last, out = None, np.empty(0)
    for device in sorted(bounds, key=bounds.__getitem__):  # the same one in a row
        if bounds[device] != last:
            last = bounds[device]
            out = _empty(tuple(stop - start for start, stop in last), dtype)
            fill(out, tuple(slice(*pair) for pair in last))
        # Waits: a device that lags behind would have many slices wait for it.
        parts[device] = jax.block_until_ready(jax.device_put(out, device))
    there = [parts[device] for device in bounds]
    return jax.make_array_from_single_device_arrays(shape, sharding, there)


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """New memory that a CPU device may take over as it is."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Rows to take at a time."""
    rows = max(1, _ELEMENTS // max(1, math.prod(shape[1:])))
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]


def _starts(file: pathlib.Path) -> dict[str, int]:
    """Where each tensor begins, in bytes from the start of a safetensors file."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return {k: 8 + size + entry["data_offsets"][0] for k, entry in header.items()}
