"""Safetensors of a folder: one file, or several with an index.

Nothing else is read: a pickle can run code, safetensors cannot. Every tensor is
accounted for, and a folder that is written appears whole or not at all.
"""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from ofmu_jax._trees import named

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = ("F32", "F16", "BF16")  # as safetensors calls them


class ModelError(ValueError):
    """A model folder that cannot be used; the message says why and what to do."""


@contextlib.contextmanager
def new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to write in, which takes its name at the end; on an error, none is left.

    Raises:
      FileExistsError: if there is something of that name.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; remove it or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_tensors(folder: pathlib.Path) -> Iterator[tuple[str, np.ndarray, str]]:
    """(name, tensor, file name) of all tensors.

    Raises:
      ModelError: no safetensors, a broken file or index, or another dtype.
    """
    for file in _weight_files(folder):
        try:
            with safetensors.safe_open(file, "numpy") as handle:
                for name in handle.keys():
                    kind = handle.get_slice(name).get_dtype()
                    if kind not in DTYPES:
                        raise ModelError(
                            f"{name!r} in {file} is {kind}, not one of "
                            f"{', '.join(DTYPES)}; give the model in one of these, "
                            "unquantised."
                        )
                    yield name, handle.get_tensor(name), file.name
        except safetensors.SafetensorError as error:
            raise ModelError(
                f"{file} is not a whole safetensors file ({error}); copy or download "
                "it again."
            ) from error


def checked_tensors(
    folder: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    optional: Collection[str] = (),
    ignored: str | None = None,
) -> Iterator[tuple[str, np.ndarray, str]]:
    """`read_tensors`, but for those whose names end in ``ignored``.

    Raises:
      ModelError: as `read_tensors`; a tensor that is unknown, in two files, misshapen,
        not finite, or missing and not ``optional``.
    """
    read = set()
    for name, tensor, file in read_tensors(folder):
        if ignored is not None and name.endswith(ignored):
            continue
        if name not in shapes:
            raise ModelError(
                f"{file} has the unknown tensor {name!r}; the model is not the one "
                "that its config.json describes."
            )
        if name in read:
            raise ModelError(f"{name!r} is in {file} and in another file; remove one.")
        if tensor.shape != shapes[name]:
            raise ModelError(
                f"{name!r} in {file} has shape {tensor.shape}, its config says "
                f"{shapes[name]}; give the config.json that belongs to it."
            )
        if not np.isfinite(tensor).all():
            raise ModelError(
                f"{name!r} in {file} has NaN or infinite entries; the model was broken "
                "before it was saved, give an earlier checkpoint."
            )
        read.add(name)
        yield name, tensor, file
    if missing := sorted(shapes.keys() - read - set(optional)):
        raise ModelError(
            f"{folder} lacks {len(missing)} tensors, the first is {missing[0]!r}; the "
            "download is incomplete or config.json is of another model."
        )


def check_shapes(params: Any, outline: Any) -> None:
    """Refuses parameters that are not the config's: some would be left out, unseen."""
    found, wanted = (
        {name: leaf.shape for name, leaf in named(tree).items()}
        for tree in (params, outline)
    )
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise ModelError(
                f"the parameters are not of this config: {name} has shape "
                f"{found.get(name, 'none')}, the config says "
                f"{wanted.get(name, 'none')}."
            )


def to_host(name: str, value: Any, dtype: Any = None) -> np.ndarray:
    """The array as it is written, in ``dtype`` if given; refused if not finite."""
    value = np.asarray(jax.device_get(value))
    with np.errstate(over="ignore"):  # checked below
        value = np.ascontiguousarray(value if dtype is None else value.astype(dtype))
    if not np.isfinite(value).all():
        raise ModelError(
            f"{name!r} has NaN or infinite entries as {value.dtype}; nothing was "
            "written: write it with dtype='float32', or give finite parameters."
        )
    return value


def _hint(folder: pathlib.Path) -> str:
    """What a folder without safetensors has in their place, and the way out."""
    adapters = sorted(folder.glob("adapter_*"))
    if adapters:
        return (
            f"; {adapters[0].name} belongs to an adapter, which is no model without "
            "its base: merge the two (merge_and_unload in peft), save the result and "
            "give its folder"
        )
    for pattern in ("pytorch_model*.bin", "model*.bin", "*.pth", "*.pt", "*.ckpt"):
        for pickle in sorted(folder.glob(pattern)):
            return (
                f"; {pickle.name} is a pickle, which can run code and is not read: "
                "convert it with transformers' save_pretrained(safe_serialization=True)"
            )
    for other in sorted(folder.glob("*.gguf")):
        return f"; {other.name} is GGUF, which is not read: give the original model"
    return ""


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    if (folder / SINGLE).is_file():  # first, as transformers does
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise ModelError(f"{folder} has no {SINGLE} and no {INDEX}{_hint(folder)}.")
    names = _indexed_names(folder / INDEX)
    for name in names:
        if pathlib.Path(name).name != name:
            raise ModelError(
                f"{INDEX} in {folder} names {name!r}; only files of the folder itself "
                "are read."
            )
        if not (folder / name).is_file():
            raise ModelError(
                f"{INDEX} names {name}, which is not in {folder}; copy or download it."
            )
    return [folder / name for name in names]


def _indexed_names(index: pathlib.Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a file name is not a string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f'{index} is not an index of the form {{"weight_map": {{tensor: file}}}} '
            f"({error}); copy or download it again."
        ) from error
    return names


def write_tensors(
    folder: pathlib.Path, tensors: Iterable[tuple[str, np.ndarray]], max_bytes: int
) -> None:
    """Writes one file, or several with an index, holding one shard in memory."""
    shards: list[list[str]] = []
    shard: dict[str, np.ndarray] = {}
    size = total = 0

    def flush() -> None:
        file = folder / f"shard-{len(shards)}"
        safetensors.numpy.save_file(shard, file, metadata={"format": "pt"})
        file.chmod(folder.stat().st_mode & 0o666)  # safetensors makes it private
        shards.append(list(shard))

    for name, tensor in tensors:
        if shard and size + tensor.nbytes > max_bytes:
            flush()
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    flush()
    if len(shards) == 1:
        (folder / "shard-0").rename(folder / SINGLE)
        return
    weight_map = {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"shard-{i}").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
