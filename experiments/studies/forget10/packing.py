"""Files in parts of limited size, to be carried to another machine one by one.

One archive (tar, xz) is cut; ``pack.json`` beside the parts names each with its size
and its SHA-256.
"""

import json
import pathlib
import tarfile
import tempfile
from collections.abc import Mapping
from typing import Any

from experiments.stages.files import sha256, write_json
from experiments.stages.stage import Stage

MANIFEST = "pack.json"
MIB = 1 << 20


def pack(files: Mapping[str, pathlib.Path], folder: pathlib.Path, most: int) -> int:
    """Writes an archive in parts; returns how many there are.

    Args:
      files: name in the archive -> file.
      folder: of the parts, which has to be empty or new.
      most: bytes of a part.

    Raises:
      FileExistsError: the folder has something in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"--prepare {folder} is not empty; name a new folder.")
    with tempfile.TemporaryFile(dir=folder) as whole:
        with tarfile.open(fileobj=whole, mode="w:xz", preset=1) as archive:
            for name, path in files.items():
                archive.add(path, name)
        count, size = -(-whole.tell() // most), whole.tell()
        whole.seek(0)
        parts = []
        for number in range(count):
            path = folder / f"part{number + 1:02}"
            path.write_bytes(whole.read(most))
            parts.append(_described(path))
    write_json(folder / MANIFEST, {"parts": parts, "bytes": size})
    return count


def _described(path: pathlib.Path) -> dict[str, Any]:
    sizes = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    return {"name": path.name, **sizes}


def unpack(folder: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    """The files of a pack, in ``to``; those that lie there already stay.

    Raises:
      ValueError: a part is missing or is not what was packed.
    """
    try:
        parts = json.loads((folder / MANIFEST).read_bytes())["parts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--pack {folder} is no folder that --prepare has written: {error}."
        ) from error
    stage = Stage(to, "".join(part["sha256"] for part in parts))
    if stage.done:
        return to
    for part in parts:
        path = folder / part["name"]
        if not path.is_file():
            raise ValueError(
                f"--pack {folder} has {len(parts)} parts and {part['name']} is not "
                "there; put all of them beside pack.json."
            )
        if _described(path) != part:
            raise ValueError(f"{path} is not what was packed; carry it again.")
    with tempfile.TemporaryFile(dir=stage.begin().parent) as whole:
        for part in parts:
            whole.write((folder / part["name"]).read_bytes())
        whole.seek(0)
        with tarfile.open(fileobj=whole, mode="r:xz") as archive:
            archive.extractall(to, filter="data")
    stage.finish({})
    return to
