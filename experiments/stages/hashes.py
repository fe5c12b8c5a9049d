"""SHA-256 of the files of a model."""

import functools
import hashlib
import pathlib
from collections.abc import Callable

from ofmu_jax.models.huggingface import folder as huggingface


def file_hashes(
    folder: str | pathlib.Path, counts: Callable[[str], bool] = lambda name: True
) -> dict[str, str]:
    """Name -> SHA-256 of a model's files; a hub name is looked up in the local cache.

    Args:
      folder: or hub name; folders within it are left out.
      counts: which names are taken.
    """
    found = huggingface.locate(folder)
    return {
        path.name: _sha256(path, path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(found.iterdir())
        if path.is_file() and counts(path.name)
    }


@functools.lru_cache(maxsize=4096)
def _sha256(path: pathlib.Path, *unchanged: int) -> str:
    """A base model is hashed once, not once for every method and seed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
