"""Stages: folders that are either done for one fingerprint or done again."""

import contextlib
import json
import pathlib
import shutil
from typing import Any

from experiments.shell import console
from experiments.stages.files import fingerprint, sha256, to_json, write_json
from ofmu_jax.parallel.distributed import on_main
from ofmu_jax.training.checkpoint import SUMS, sync, sync_tree

# What a stage's folder may lack and still be done: nobody reads it but people.
CARD = "README.md"  # of an export, written when it has its numbers
FOR_PEOPLE = ("metrics.jsonl", "events", CARD)
RECORD = "deletion.json"  # written into an export that is finished
# Of names that loaders of models look for: what else is added is its owner's.
_READ = {".safetensors", ".json", ".bin", ".pt", ".pth", ".py", ".gguf", ".jinja"}


class Stage:
    """A folder of results that knows what they were made from.

    ``done`` is True only if `finish` was reached with the same fingerprint, so a
    killed stage is done again and so is one made from other settings. The mark lies
    beside the folder, as ``<folder>.stage.json``, and names what was in it, files with
    their SHA-256: remove or change some of that, such as a damaged checkpoint or an
    evaluation, or the mark itself, and the stage is done again.

    The result of other settings is kept as ``<folder>.earlier`` until the new one is
    finished, and their snapshots in ``<folder>.progress``: if that fails, the earlier
    settings find them again. Processes of one job
    share the folder; the first does and decides everything here, and all hear of it.
    """

    def __init__(self, folder: pathlib.Path, fingerprint: str):
        self.folder, self.fingerprint = folder, fingerprint
        self._mark = _mark(folder)
        self._earlier = folder.with_name(folder.name + ".earlier")
        self._started = folder.with_name(folder.name + ".started")
        self._progress = folder.with_name(folder.name + ".progress")

    @property
    def done(self) -> bool:
        """True if the folder's results are those of this fingerprint."""

        def is_done() -> bool:
            if self._made(self._earlier) and not self._made(self.folder):
                self._move(self._earlier, self.folder)
            lost = self._lost(self.folder)
            if lost:
                console.warning(
                    f"{self.folder} is done again: it was finished, and "
                    f"{' and '.join(lost)}."
                )
            return lost == []

        return on_main(is_done)

    def _made(self, folder: pathlib.Path) -> bool:
        """True if the folder holds the result of this fingerprint, all of it."""
        return self._lost(folder) == []

    def _lost(self, folder: pathlib.Path) -> list[str] | None:
        """What is no longer as it was in the result of this fingerprint, in words.

        None: there was no such result.
        """
        mark = _read(_mark(folder))
        if mark.get("fingerprint") != self.fingerprint:
            return None
        if not folder.is_dir():
            return ["the folder is no longer there"]
        gone = [name for name in mark["content"] if not (folder / name).exists()]
        sums = {name: total for name, total in mark["sums"].items() if name not in gone}
        changed = [name for name in sums if _sum(folder / name) != sums[name]]
        known = {*mark["content"], *FOR_PEOPLE, RECORD}
        names = sorted(path.name for path in folder.iterdir())
        added = [
            name
            for name in names
            if name not in known and _READ & {*pathlib.Path(name).suffixes}
        ]
        return [
            *(f"{name} is no longer there" for name in gone),
            *(f"{name} has changed" for name in changed),
            *(f"{name} was added" for name in added),
        ]

    @property
    def progress(self) -> pathlib.Path:
        """Where snapshots of this fingerprint lie, beside those of other settings."""
        return self._progress / self.fingerprint[:16]

    def begin(self) -> pathlib.Path:
        """Empties the folder of an earlier attempt and returns it.

        A finished result in it, of other settings, is set aside until `finish`, and
        so are snapshots of other settings.

        Raises:
          FileExistsError: if the folder is not one that a stage has made.
        """
        on_main(self._empty)
        return self.folder

    def _empty(self) -> None:
        if self.folder.exists():
            if not (self._mark.exists() or self._started.exists()):
                raise FileExistsError(
                    f"{self.folder} exists and was not made by this command; choose "
                    "another --output-dir or remove it."
                )
        if self.folder.is_symlink():
            self.folder.unlink()  # what it points to is not the stage's
        _make(self.folder.parent)
        self._started.touch()  # first: ended anywhere below, the stage is not done
        sync(self._started.parent)
        if self._mark.exists() and self.folder.is_dir():
            self._move(self.folder, self._earlier)
        self._mark.unlink(missing_ok=True)
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            _remove(path)

    def _move(self, source: pathlib.Path, to: pathlib.Path) -> None:
        """Moves a result with its mark; ended anywhere, it is whole in one place."""
        _mark(to).unlink(missing_ok=True)
        _remove(to)
        shutil.copyfile(_mark(source), _mark(to))  # means nothing without its folder
        sync(_mark(to))
        sync(to.parent)
        source.rename(to)
        sync(to.parent)
        _mark(source).unlink()

    def tidy(self) -> None:
        """Removes the snapshots of this fingerprint: the stage is done."""

        def remove() -> None:
            shutil.rmtree(self.progress, ignore_errors=True)
            with contextlib.suppress(OSError):  # not there, or not empty
                self._progress.rmdir()

        on_main(remove)

    def finish(self, result: dict[str, Any]) -> None:
        """Marks the stage done; `result` gives ``result`` back."""

        def write() -> None:
            paths = list(self.folder.iterdir())
            for path in paths:
                sync_tree(path)
            sync(self.folder)
            decides = sorted(path for path in paths if path.name not in FOR_PEOPLE)
            mark = {
                "fingerprint": self.fingerprint,
                "content": [path.name for path in decides],
                "sums": {path.name: x for path in decides if (x := _sum(path))},
                "result": to_json(result),
            }
            write_json(self._mark, mark | {"sum": fingerprint(mark)})
            self._started.unlink(missing_ok=True)
            _mark(self._earlier).unlink(missing_ok=True)
            _remove(self._earlier)
            others = self._progress.iterdir() if self._progress.is_dir() else ()
            for path in others:
                if path != self.progress:  # to which a snapshot may still be written
                    _remove(path)

        on_main(write)

    @property
    def result(self) -> dict[str, Any]:
        """What the finished stage recorded."""
        return on_main(lambda: _read(self._mark)["result"])


def _mark(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(folder.name + ".stage.json")


def _read(mark: pathlib.Path) -> dict[str, Any]:
    """A mark as it was written; {} where it is absent, damaged or changed."""
    try:
        found = json.loads(mark.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    total = found.pop("sum", None)
    return found if total == fingerprint(found) else {}


def _sum(path: pathlib.Path) -> str | None:
    """SHA-256 of a file, of a checkpoint that of its own sums; None: it is neither.

    Whoever reads the checkpoint holds its files against those.
    """
    path = path / SUMS if path.is_dir() else path
    return sha256(path) if path.is_file() else None


def _make(folder: pathlib.Path) -> None:
    """Makes a folder and those above it, for good."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync(path.parent)


def _remove(path: pathlib.Path) -> None:
    """Removes a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
