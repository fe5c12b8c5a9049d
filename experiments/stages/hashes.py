"""SHA-256 of the files of a model."""

import pathlib
from collections.abc import Callable

from experiments.stages.files import sha256
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
    files = (path for path in sorted(found.iterdir()) if path.is_file())
    return {path.name: sha256(path) for path in files if counts(path.name)}
