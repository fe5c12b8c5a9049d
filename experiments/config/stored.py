"""A run's configuration back from its JSON form."""

import dataclasses
import pathlib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from experiments.config.common import Run
from experiments.config.language import Demo, Request, Tofu
from experiments.config.vision import Cifar

Config = TypeVar("Config")
COMMANDS = {run.__name__.lower(): run for run in (Demo, Tofu, Request, Cifar)}


def run_from_json(values: Mapping[str, Any]) -> Run:
    """The run whose fields, with the name of its command, were written as JSON.

    What is absent keeps its default.

    >>> run_from_json({"command": "demo", "seeds": [3], "train": {"epochs": 2}}).seeds
    (3,)

    Raises:
      ValueError: an unknown command or field.
    """
    fields = dict(values)
    command = fields.pop("command", None)
    if command not in COMMANDS:
        raise ValueError(
            f"a run of command {command!r} cannot be read back; known are "
            f"{', '.join(COMMANDS)}."
        )
    return filled(COMMANDS[command](), fields)


def filled(like: Config, values: Mapping[str, Any]) -> Config:
    """``like``, a dataclass instance, with the fields that ``values`` has.

    Raises:
      ValueError: a field that it does not have.
    """
    types = {field.name: field.type for field in dataclasses.fields(like)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise ValueError(
                f"{type(like).__name__} has no field {name!r}; it was written by "
                "another version: use that one."
            )
        default, kind = getattr(like, name), types[name]
        if dataclasses.is_dataclass(default):
            value = filled(default, value)
        elif isinstance(default, tuple):
            value = tuple(value)
        elif value is not None and pathlib.Path in (kind, *typing.get_args(kind)):
            value = pathlib.Path(value)
        changes[name] = value
    return dataclasses.replace(like, **changes)  # type: ignore[type-var]
