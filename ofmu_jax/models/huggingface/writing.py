"""Parameters written as the tensors of a Hugging Face folder, one after the other.

Of a stack of layers one layer at a time is brought to the host, so that neither it nor
a device ever holds more of what is spread (`parallel.gathering`).
"""

import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ofmu_jax.models.huggingface.weights import (
    EMBEDDING,
    HEAD,
    abstract,
    checked_infos,
    common_dtype,
    places,
    tensor_shapes,
)
from ofmu_jax.models.llama.model import LlamaConfig, Params
from ofmu_jax.models.tensor_files import (
    DTYPES,
    INDEX,
    SINGLE,
    Once,
    alone,
    check_shapes,
    read_headers,
    read_index,
    read_tensors,
)
from ofmu_jax.models.tensor_writer import (
    Entry,
    write_file,
    write_index,
    write_shards,
)
from ofmu_jax.parallel.distributed import is_main
from ofmu_jax.parallel.gathering import spread, to_main


def write_params(
    folder: pathlib.Path,
    params: Params,
    config: LlamaConfig,
    *,
    dtype: Any = None,
    max_shard_bytes: int,
    once: Once = alone,
) -> None:
    """Writes parameters as safetensors: one file, or several with an index.

    Args:
      once: runs what writes: `distributed.on_main` if the parameters lie on several
        processes, which all call this.
    """
    check_shapes(params, abstract(config))
    flat: Any = flatten_dict(params)
    found, entries = places(config), {}
    for name, shape in tensor_shapes(config):
        entries[name] = Entry(np.dtype(dtype or flat[found[name][0]].dtype), shape)
    tensor_of = _tensors(config, params, entries)
    write_shards(folder, entries, tensor_of, max_shard_bytes, once)


def write_params_like(
    folder: pathlib.Path,
    params: Params,
    config: LlamaConfig,
    source: pathlib.Path,
    *,
    dtype: Any = None,
    once: Once = alone,
) -> None:
    """Writes parameters under the names, in the files and dtypes of another folder.

    Args:
      source: whose headers are looked at.
      dtype: of all tensors, in place of theirs.
      once: as in `write_params`.
    """
    check_shapes(params, abstract(config))
    every = read_headers(source)
    infos, optional = checked_infos(source, config, every)
    by_file: dict[str, list[str]] = {}
    for name, info in every.items():
        by_file.setdefault(_safe(info.file), []).append(name)
    entries = {
        name: Entry(
            np.dtype((name in infos and dtype) or DTYPES[info.dtype]), info.shape
        )
        for name, info in every.items()
    }
    if HEAD in optional and HEAD in infos:
        kinds = [entries[name].dtype for name in (HEAD, EMBEDDING)]
        params = _as_one(params, *kinds) if len(set(kinds)) > 1 else params
    learned = _tensors(config, params, entries)

    def tensor_of(name: str) -> np.ndarray | None:
        if name in infos:
            return learned(name)
        return next(read_tensors(source, {name: every[name]}))[1]  # a constant

    for file, names in by_file.items():
        part = {name: entries[name] for name in names}
        write_file(folder / file, part, tensor_of, once)
    if list(by_file) == [SINGLE]:
        return
    weight_map = {name: file for file, names in by_file.items() for name in names}
    if dtype is None and read_index(source / INDEX) == weight_map:
        once(lambda: _nothing(shutil.copyfile(source / INDEX, folder / INDEX)))
    else:
        total = sum(entry.nbytes for entry in entries.values())
        once(lambda: write_index(folder, weight_map, total))


def _nothing(_: Any) -> None:
    """For `Once`, whose result is none."""


def _as_one(params: Params, *dtypes: Any) -> Params:
    """Parameters whose embedding is the same in each of the dtypes: a tied head is one
    tensor with it."""
    flat: dict[Any, Any] = dict(flatten_dict(params))
    path = ("embed_tokens", "embedding")
    for dtype in dtypes:
        flat[path] = flat[path].astype(dtype).astype(flat[path].dtype)
    return unflatten_dict(flat)


def widest(params: Params) -> np.dtype:
    """The dtype of the parameters, or the narrowest that holds all of theirs."""
    return common_dtype(np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params))


def _safe(file: str) -> str:
    """The name of a file of weights; an index may name them as it likes."""
    file = "".join(x if x.isprintable() else "_" for x in file)
    return file if file.endswith(".safetensors") else f"{file}.safetensors"


def _tensors(
    config: LlamaConfig, params: Params, entries: Mapping[str, Entry]
) -> Callable[[str], np.ndarray | None]:
    """The tensor of a name as its entry says, where it is written."""
    flat: Any = flatten_dict(params)
    found = places(config)
    gets = is_main() or not spread(params)

    def tensor_of(name: str) -> np.ndarray | None:
        path, layer, transposed = found[name]
        dtype, shape = entries[name]
        out = np.empty(shape, dtype) if gets else None
        turned = out.T if transposed and out is not None else out
        to_main(flat[path], layer, turned, dtype)
        return out

    return tensor_of
