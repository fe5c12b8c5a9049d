"""Safetensors of a folder: one file, or several with an index.

Nothing else is read: a pickle can run code, safetensors cannot. Every tensor is
accounted for, and a folder that is written appears whole or not at all.
"""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors

from ofmu_jax import _disk
from ofmu_jax._trees import named
from ofmu_jax.models.other_formats import hint, pointer
from ofmu_jax.parallel.distributed import is_main

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
Once = Callable[[Callable[[], None]], Any]
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # as numpy has them


class ModelError(ValueError):
    """A model folder that cannot be used; the message says why and what to do."""


class TensorInfo(NamedTuple):
    """What a header says of a tensor."""

    file: str
    dtype: str  # a key of `DTYPES`
    shape: tuple[int, ...]


def alone(action: Callable[[], None]) -> None:
    """Runs what writes, in a process that writes alone; `distributed.on_main` takes its
    place where several write together."""
    action()


@contextlib.contextmanager
def new_folder(folder: pathlib.Path, once: Once = alone) -> Iterator[pathlib.Path]:
    """A folder to write in, which takes its name at the end; on an error, none is left.

    Args:
      once: runs what writes; all processes of a job get the folder's name.

    Raises:
      FileExistsError: if there is something of that name.
      OSError: if there is no room; the message names the folder.
    """
    partial = folder.with_name(folder.name + ".partial")

    def begin() -> None:
        if folder.exists():
            raise FileExistsError(
                f"{folder} exists; remove it or choose another folder."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()

    def take_place() -> None:
        partial.replace(folder)

    with _disk.writing("the model folder", folder):
        once(begin)
        try:
            yield partial
            once(take_place)
        finally:
            if once is alone or is_main():
                shutil.rmtree(partial, ignore_errors=True)


def read_headers(folder: pathlib.Path) -> dict[str, TensorInfo]:
    """What the headers say of all tensors, by name; no tensor is read.

    Raises:
      ModelError: no safetensors, a broken file or index, another dtype, or a name that
        is in two files.
    """
    found: dict[str, TensorInfo] = {}
    for file in weight_files(folder):
        with _opened(file) as handle:
            for name in handle.keys():
                piece = handle.get_slice(name)
                kind = piece.get_dtype()
                if kind not in DTYPES:
                    raise ModelError(
                        f"{name!r} in {file} is {kind}, not one of "
                        f"{', '.join(DTYPES)}; give the model in one of these, "
                        "unquantised."
                    )
                if name in found:
                    raise ModelError(
                        f"{name!r} is in {file.name} and in another file of {folder}; "
                        "remove one."
                    )
                found[name] = TensorInfo(file.name, kind, tuple(piece.get_shape()))
    return found


def read_tensors(
    folder: pathlib.Path, infos: Mapping[str, TensorInfo] | None = None
) -> Iterator[tuple[str, np.ndarray, str]]:
    """(name, tensor, file name) of those whose headers are given; default: of all.

    Raises:
      ModelError: as `read_headers`.
    """
    infos = read_headers(folder) if infos is None else infos
    by_file: dict[str, list[str]] = {}
    for name, info in infos.items():
        by_file.setdefault(info.file, []).append(name)
    for file, names in by_file.items():
        with _opened(folder / file) as handle:
            for name in names:
                yield name, handle.get_tensor(name), file


@contextlib.contextmanager
def _opened(file: pathlib.Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(file, "numpy") as handle:
            yield handle
    except safetensors.SafetensorError as error:
        why = f"is not a whole safetensors file ({error}); copy or download it again"
        raise ModelError(f"{file} {pointer(file) or why}.") from error


def checked_tensors(
    folder: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    infos: Mapping[str, TensorInfo],
    *,
    optional: Collection[str] = (),
) -> Iterator[tuple[str, np.ndarray, str]]:
    """(name, tensor, file name) of all tensors, once `check_headers` has passed.

    Args:
      folder, shapes, infos, optional: as there.

    Raises:
      ModelError: as there, or a tensor that is not finite.
    """
    check_headers(folder, shapes, infos, optional=optional)
    for name, tensor, file in read_tensors(folder, infos):
        if not np.isfinite(tensor).all():
            raise ModelError(
                f"{name!r} in {file} has NaN or infinite entries; the "
                "model was broken before it was saved, give an earlier checkpoint."
            )
        yield name, tensor, file


def check_headers(
    folder: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    infos: Mapping[str, TensorInfo],
    *,
    optional: Collection[str] = (),
) -> None:
    """Accounts for every tensor.

    Args:
      folder: where they lie.
      shapes: of the tensors there must be, by name.
      infos: what there is, as `read_headers` gives it.
      optional: names that may be missing.

    Raises:
      ModelError: a tensor that is unknown, misshapen, or missing and not ``optional``.
    """
    for name, info in infos.items():
        if name not in shapes:
            raise ModelError(
                f"{info.file} has the unknown tensor {name!r}; the model is not the "
                "one that its config.json describes."
            )
        if info.shape != shapes[name]:
            raise ModelError(
                f"{name!r} in {info.file} has shape {info.shape}, its config says "
                f"{shapes[name]}; give the config.json that belongs to it."
            )
    if missing := sorted(shapes.keys() - infos.keys() - set(optional)):
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


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder that tensors are read from.

    Raises:
      ModelError: there are none, or the index names others than those there are.
    """
    if (folder / SINGLE).is_file():  # first, as transformers does
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise ModelError(f"{folder} has no {SINGLE} and no {INDEX}{hint(folder)}.")
    names = sorted(set(read_index(folder / INDEX).values()))
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


def read_index(index: pathlib.Path) -> dict[str, str]:
    """The file that each tensor is in.

    Raises:
      ModelError: if it is no index.
    """
    try:
        found = dict(json.loads(index.read_bytes())["weight_map"].items())
        if not all(isinstance(name, str) for name in found.values()):
            raise TypeError("a file name is not a string")
    except (
        *(ValueError, KeyError, TypeError, AttributeError),
        *(RecursionError, OSError),
    ) as error:
        raise ModelError(
            f'{index} is not an index of the form {{"weight_map": {{tensor: file}}}} '
            f"({error}); copy or download it again."
        ) from error
    return found
