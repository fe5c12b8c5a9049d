"""Safetensors written a tensor at a time, with the bytes of the safetensors package.

That package wants all tensors of a file in memory. Here one is asked for after the
other, which may mean that it is gathered from several processes: these write together,
and what touches the disk goes through ``once``, which is `distributed.on_main` then.
"""

import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ofmu_jax.models.tensor_files import DTYPES, INDEX, SINGLE, ModelError, Once, alone

_KINDS = {np.dtype(numpy): kind for kind, numpy in DTYPES.items()}
_ORDER = ("F16", "BF16", "F32")  # of tensors in a file, from its end


class Entry(NamedTuple):
    """A tensor to be written."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """On the disk."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_file(
    path: pathlib.Path,
    entries: Mapping[str, Entry],
    tensor_of: Callable[[str], np.ndarray | None],
    once: Once = alone,
) -> None:
    """Writes one safetensors file.

    Args:
      entries: what it holds, by name.
      tensor_of: the tensor of a name, as its entry says; None in processes that do not
        write. It is asked once for each, and let go before the next.
      once: runs what writes.

    Raises:
      ModelError: a tensor that is not finite.
    """
    kind = lambda name: _KINDS[entries[name].dtype]
    order = sorted(entries, key=lambda name: (-_ORDER.index(kind(name)), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        start, end = end, end + entries[name].nbytes
        shape, offsets = list(entries[name].shape), [start, end]
        header[name] = {"dtype": kind(name), "shape": shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    once(lambda: _append(path, len(text).to_bytes(8, "little") + text))
    for name in order:
        once(functools.partial(_append_tensor, path, name, tensor_of(name)))


def write_tensors(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """`write_file` of tensors that are all there."""
    entries = {name: Entry(x.dtype, x.shape) for name, x in tensors.items()}
    write_file(path, entries, tensors.__getitem__)


def write_shards(
    folder: pathlib.Path,
    entries: Mapping[str, Entry],
    tensor_of: Callable[[str], np.ndarray | None],
    max_bytes: int,
    once: Once = alone,
) -> None:
    """Writes one file, or several with an index, of at most so many bytes of tensors.

    Args:
      entries, tensor_of, once: as in `write_file`.
    """
    shards: list[dict[str, Entry]] = [{}]
    size = 0
    for name, entry in entries.items():
        if shards[-1] and size + entry.nbytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = entry
        size += entry.nbytes
    if len(shards) == 1:
        write_file(folder / SINGLE, entries, tensor_of, once)
        return
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / file, shard, tensor_of, once)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(entry.nbytes for entry in entries.values())
    once(lambda: write_index(folder, weight_map, total))


def write_index(
    folder: pathlib.Path, weight_map: Mapping[str, str], total: int
) -> None:
    """Writes which file each tensor is in, and their bytes in all."""
    index = {"metadata": {"total_size": total}, "weight_map": dict(weight_map)}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def _append_tensor(path: pathlib.Path, name: str, tensor: np.ndarray | None) -> None:
    assert tensor is not None  # in the process that writes
    rows = tensor.reshape(-1) if tensor.flags.c_contiguous else tensor
    for start in range(0, len(rows), 2**22):
        if not np.isfinite(rows[start : start + 2**22]).all():
            raise ModelError(
                f"{name!r} has NaN or infinite entries as {tensor.dtype}; nothing was "
                "written: write it with dtype='float32', or give finite parameters."
            )
    _append(path, rows.view(np.uint8))


def _append(path: pathlib.Path, content: Any) -> None:
    with path.open("ab") as stream:
        stream.write(content)
