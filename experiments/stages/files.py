"""What is written is whole or absent, and values as JSON."""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ofmu_jax import _disk
from ofmu_jax.parallel.distributed import is_main
from ofmu_jax.training.checkpoint import sync


def fingerprint(*parts: Any) -> str:
    """SHA-256 of dataclasses, paths and JSON-able values; equal input, equal text."""
    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Dataclasses as dicts and paths as text, for `json.dumps`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, pathlib.PurePath):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON: {value!r}")


def to_json(value: Any) -> Any:
    """A dataclass, or what holds some, as plain JSON values."""
    return json.loads(json.dumps(value, default=plain))


def finite(value: Any, lost: list[str] | None = None, path: str = "") -> Any:
    """JSON values; what is NaN or infinite becomes None.

    Args:
      value: numbers, texts, paths and arrays, in lists and mappings.
      lost: gets the path of everything that became None.
      path: of the value.

    Raises:
      ValueError: something has no JSON.

    >>> finite({"a": [1.0, float("nan")]}, lost := []), lost
    ({'a': [1.0, None]}, ['a[1]'])
    """
    if isinstance(value, Mapping):
        return {
            str(k): finite(v, lost, f"{path}.{k}" if path else str(k))
            for k, v in value.items()
        }
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [finite(v, lost, f"{path}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        if lost is not None:
            lost.append(path)
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, pathlib.PurePath):
        return str(value)
    raise ValueError(
        f"{path} is {value!r} ({type(value).__name__}); it must be a number, text, a "
        "list or an object."
    )


def write_json(path: pathlib.Path, value: Any, *, allow_nan: bool = True) -> None:
    """Writes JSON as `write_text` does; of several processes only the first."""
    if is_main():
        text = json.dumps(value, indent=1, default=plain, allow_nan=allow_nan)
        write_text(path, text + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file so that a crash leaves the old one or the new one, never half.

    So does a reboot: when it returns, the new one is on the disk.
    """
    write_with(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_with(path: pathlib.Path, write: Callable[[pathlib.Path], object]) -> None:
    """`write_text` for whatever ``write`` writes to the path that it is given.

    Raises:
      DiskError: if there is no room.
    """
    with _disk.writing("the file", path):
        with _disk.replacing("the file", path) as partial:
            write(partial)
            sync(partial)
        sync(path.parent)


def sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file."""
    return _sha256(path, path.stat().st_mtime_ns, path.stat().st_size)


@functools.lru_cache(maxsize=4096)
def _sha256(path: pathlib.Path, *unchanged: int) -> str:
    """A base model is hashed once, not once for every method and seed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
