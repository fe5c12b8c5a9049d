"""A run's configuration back from its JSON form."""

import dataclasses
import difflib
import pathlib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from experiments.config.common import Run
from experiments.config.language import Choices, Demo, Request, Tofu
from experiments.config.vision import Cifar

Config = TypeVar("Config")
FEW = 8  # fields that an error lists
COMMANDS = {run.__name__.lower(): run for run in (Demo, Tofu, Request, Choices, Cifar)}


def run_from_json(values: Mapping[str, Any]) -> Run:
    """The run whose fields, with the name of its command, were written as JSON.

    What is absent keeps its default.

    >>> run_from_json({"command": "demo", "seeds": [3], "train": {"epochs": 2}}).seeds
    (3,)

    Raises:
      ValueError: an unknown command or field, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"a run is {_shown(values)}; it must be an object.")
    fields = dict(values)
    command = fields.pop("command", None)
    if not isinstance(command, str) or command not in COMMANDS:
        raise ValueError(
            f"a run of command {command!r} cannot be read back; known are "
            f"{', '.join(COMMANDS)}."
        )
    return filled(COMMANDS[command](), fields)


def filled(like: Config, values: Mapping[str, Any]) -> Config:
    """``like``, a dataclass instance, with the fields that ``values`` has.

    Raises:
      ValueError: a field that it does not have, or a value of another type.
    """
    name_of = type(like).__name__
    if not isinstance(values, Mapping):
        raise ValueError(f"{name_of} is {_shown(values)}; it must be an object.")
    kinds = {field.name: field.type for field in dataclasses.fields(like)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            close = difflib.get_close_matches(str(name), kinds, 1)
            meant = f", but {close[0]!r}" if close else ""
            if not close and len(kinds) <= FEW:
                meant = f", but {', '.join(kinds)}"
            raise ValueError(
                f"{name_of} has no field {name!r}{meant}; mend it, or use the version "
                "of the code that wrote it."
            )
        default, kind = getattr(like, name), kinds[name]
        if dataclasses.is_dataclass(default):
            changes[name] = filled(default, value)
            continue
        if not _is(value, kind) and _is([value], kind):
            value = [value]  # as a command line has it
        if not _is(value, kind):
            raise ValueError(
                f"{name_of} has {name} = {_shown(value)}; it must be {_said(kind)}."
            )
        changes[name] = _valued(value, kind)
    return dataclasses.replace(like, **changes)  # type: ignore[type-var]


def _valued(value: Any, kind: Any) -> Any:
    """A JSON value as that of a field: lists are tuples, texts may be paths."""
    if isinstance(value, list):
        return tuple(_valued(item, kind) for item in value)
    if type(value) is int and _is(0.5, kind):
        return float(value)
    is_path = isinstance(value, str) and pathlib.Path in _leaves(kind)
    return pathlib.Path(value) if is_path else value


def _said(kind: Any) -> str:
    """What a field takes, in words.

    >>> _said(tuple[float, ...]), _said(Literal["a", "b"] | None)
    ('a list, each a number', 'a or b or null')
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _said(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_said, arguments))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return f"a list, each {_said(arguments[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    words |= {types.NoneType: "null", str: "a text", pathlib.Path: "a path"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _leaves(kind: Any) -> Iterator[Any]:
    """The types that a field's type is put together from.

    >>> list(_leaves(int | tuple[str, ...])) == [int, str, ...]
    True
    """
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Annotated:
        arguments = arguments[:1]
    if not arguments:
        yield kind
    for argument in arguments:
        yield from _leaves(argument)


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value may be that of a field.

    >>> _is(1, float), _is(True, int), _is(None, int | None)
    (True, False, True)
    >>> _is(["a"], tuple[str, ...]), _is([1], tuple[str, ...]), _is({}, str)
    (True, False, False)
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _is(value, arguments[0])
    if origin in (types.UnionType, typing.Union):
        return any(_is(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, list) and all(_is(v, arguments[0]) for v in value)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if not isinstance(kind, type):
        return True  # nothing is known of it
    known = {float: (int, float), pathlib.Path: str, types.NoneType: types.NoneType}
    return isinstance(value, known.get(kind, kind))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:56]} …"
