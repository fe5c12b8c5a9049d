"""Stages: folders that are either done for one fingerprint or done again."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
from typing import Any


def fingerprint(*parts: Any) -> str:
    """SHA-256 of dataclasses, paths and JSON-able values; equal input, equal text."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, pathlib.PurePath):
        return str(value)
    raise TypeError(f"cannot fingerprint {type(value).__name__}: {value!r}")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON so that a crash leaves the old file or the new one, never half."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, default=_plain) + "\n")
    partial.replace(path)


class Stage:
    """A folder of results that knows what they were made from.

    ``done()`` is True only if ``finish`` was reached with the same fingerprint, so a
    killed stage is done again and one made from other settings is too.
    """

    def __init__(self, folder: pathlib.Path, fingerprint: str):
        self.folder, self.fingerprint = folder, fingerprint

    @property
    def _mark(self) -> pathlib.Path:
        return self.folder / "stage.json"

    def done(self) -> bool:
        """True if the folder's results are those of this fingerprint."""
        try:
            mark = json.loads(self._mark.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return mark.get("fingerprint") == self.fingerprint

    def begin(self) -> pathlib.Path:
        """Empties the folder and returns it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        return self.folder

    def finish(self, result: dict[str, Any]) -> None:
        """Marks the stage done; ``result`` is what `result` gives back."""
        write_json(self._mark, {"fingerprint": self.fingerprint, "result": result})

    def result(self) -> dict[str, Any]:
        """What the finished stage recorded."""
        return json.loads(self._mark.read_text())["result"]
