"""Safetensors of a folder: one file, or several with an index.

Nothing else is read: a pickle can run code, safetensors cannot.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import safetensors
import safetensors.numpy

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = ("F32", "F16", "BF16")  # as safetensors calls them


class ModelError(ValueError):
    """A model folder that cannot be used; the message says why and what to do."""


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


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    if (folder / SINGLE).is_file():  # first, as transformers does
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        pickles = [path.name for path in folder.glob("*.bin")]
        hint = (
            f"; {pickles[0]} is a pickle, which can run code and is not read: convert "
            "it with transformers' save_pretrained(safe_serialization=True)"
            if pickles
            else ""
        )
        raise ModelError(f"{folder} has no {SINGLE} and no {INDEX}{hint}.")
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
