"""The trackers that there are, and all that a run asked for as one."""

import contextlib
import importlib.util
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.shell import console
from experiments.stages.files import write_json
from experiments.stages.trackers.base import About, Kind, Tracker
from experiments.stages.trackers.mlflow import MLFLOW
from experiments.stages.trackers.wandb import WANDB
from ofmu_jax.parallel.distributed import is_main

TRACKERS: dict[str, Kind] = {"wandb": WANDB, "mlflow": MLFLOW}


def check(names: Sequence[str]) -> None:
    """Refuses, before anything is trained, a tracker that could be told nothing.

    Raises:
      ValueError: its package is not installed, or it does not work, with the reason.
    """
    for name in names if is_main() else ():
        kind = TRACKERS[name]
        if not _installed(kind.package):
            raise ValueError(
                f"--tracker {name} needs the package {kind.package}, which is not "
                f"installed: pip install 'ofmu-jax[{name}]', or leave it out."
            )
        try:
            kind.check()
        except Exception as error:  # whatever it, or the way to its server, raises
            raise ValueError(f"--tracker {name} cannot be used: {error}.") from error


def _installed(package: str) -> bool:
    """Whether there is a package; a folder of its name, as of its own logs, is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


class Told:
    """Several trackers as one. None of them ends a run: one that fails is left out."""

    def __init__(self, runs: Mapping[str, Tracker]):
        self._runs = dict(runs)

    def log(self, update: int, values: Mapping[str, float | None]) -> None:
        """Numbers of an update, in each."""
        self._each(lambda run: run.log(update, _finite(values)))

    def evaluated(self, metrics: Mapping[str, float | None]) -> None:
        """Numbers of the finished model, in each."""
        self._each(lambda run: run.evaluated(_finite(metrics)))

    def close(self, done: bool) -> None:
        """Closes each."""
        self._each(lambda run: run.close(done))

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, run in list(self._runs.items()):
            try:
                tell(run)
            except Exception as error:  # whatever it, or the way to its server, raises
                _left_out(name, error)
                del self._runs[name]


NOBODY = Told({})


@contextlib.contextmanager
def told(
    names: Sequence[str], about: About, folder: pathlib.Path, identity: str
) -> Iterator[Told]:
    """The trackers of a run, open for one model, in process 0 alone.

    Their ids are kept beside the folder of its training: what goes on in another
    process, or is evaluated later, is told to the same ones.

    Args:
      identity: of the model; another one in the same folder begins anew.
    """
    if not (names and is_main()):
        yield NOBODY
        return
    path = folder.with_name(f"{folder.name}.trackers.json")
    known, runs = _known(path, identity), {}
    for name in names:
        try:
            runs[name] = TRACKERS[name].start(about, known.get(name))
        except Exception as error:
            _left_out(name, error)
    ids = known | {name: run.id for name, run in runs.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"identity": identity, "ids": ids})
    every, done = Told(runs), False
    try:
        yield every
        done = True
    finally:
        every.close(done)


def _known(path: pathlib.Path, identity: str) -> dict[str, str]:
    """Ids that a model had before."""
    try:
        found = json.loads(path.read_bytes())
        return found["ids"] if found["identity"] == identity else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _left_out(name: str, error: Exception) -> None:
    console.warning(f"--tracker {name} is told no more of this model: {error}")


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    found = {name: value for name, value in values.items() if value is not None}
    return {name: float(x) for name, x in found.items() if math.isfinite(x)}
