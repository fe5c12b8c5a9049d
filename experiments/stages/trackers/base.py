"""What a tracker is told of a model: its choices, its updates, its evaluation."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

PROJECT = "ofmu-jax"  # where the tracker's own settings name none


class About(NamedTuple):
    """A model as trackers show it; no text of a row is in it."""

    name: str  # such as "npo, seed 0"
    group: str  # shared by the models of a run
    tags: Mapping[str, str]  # role, method, seed
    config: Mapping[str, Any]  # JSON values, nested
    folder: pathlib.Path  # of the run, for files of the tracker


class Tracker(Protocol):
    """One model in one tracker, from its first update to its evaluation."""

    @property
    def id(self) -> str:
        """By which a later process goes on with it."""
        ...

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """Finite numbers of an update."""

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Finite numbers of the finished model."""

    def close(self, done: bool) -> None:
        """Sends what is left; ``done`` is False where something broke off."""


class Kind(NamedTuple):
    """A tracker that can be chosen."""

    package: str  # what is imported; the name of its extra, too
    check: Callable[[], None]  # raises where nothing could be sent
    start: Callable[[About, str | None], Tracker]  # anew, or by the id it had before


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots.

    >>> flat({"npo": {"loss": {"beta": 0.1}}, "seeds": [0]})
    {'npo.loss.beta': 0.1, 'seeds': [0]}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        else:
            found[path] = value
    return found
