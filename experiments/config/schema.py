"""The JSON Schema of ``config.json``, and of files for ``--config`` with its names.

It is made of the dataclasses that hold the options, their bounds and their help, so
that it is never behind them.
"""

import ast
import dataclasses
import functools
import inspect
import math
import pathlib
import textwrap
import types
import typing
from typing import Annotated, Any, Literal

from experiments.config.common import Run
from experiments.config.stored import COMMANDS
from ofmu_jax.bounds import Bound

VERSION = 1
ID = f"urn:ofmu-jax:schema:config:{VERSION}"
_PLAIN = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    pathlib.Path: {"type": "string"},
    types.NoneType: {"type": "null"},
}


def schema() -> dict[str, Any]:
    """Of the configuration of any command, which its entry ``command`` names."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Configuration of a run of ofmu_jax",
        "type": "object",
        "required": ["command"],
        "properties": {"command": {"enum": list(COMMANDS)}},
        "allOf": [
            {
                "if": {"properties": {"command": {"const": name}}},
                "then": _of_command(name, kind()),
            }
            for name, kind in COMMANDS.items()
        ],
    }


def _of_command(name: str, run: Run) -> dict[str, Any]:
    found = of(run)
    return found | {"properties": {"command": {"const": name}} | found["properties"]}


def of(config: Any) -> dict[str, Any]:
    """The schema of a dataclass, as `stored.filled` reads it: no field has to be there,
    and there is no other.

    >>> @dataclasses.dataclass
    ... class Step:
    ...     rate: Annotated[float, Bound(0, above=True)] | None = None
    >>> of(Step())["properties"]["rate"]["anyOf"]
    [{'type': 'number', 'exclusiveMinimum': 0}, {'type': 'null'}]
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    helps = _helps(type(config))
    found = {}
    for field in dataclasses.fields(config):
        value, about = getattr(config, field.name), helps.get(field.name)
        nested = dataclasses.is_dataclass(value)
        kind = of(value) if nested else _kind(hints[field.name])
        found[field.name] = kind | ({"description": about} if about else {})
    return {"type": "object", "properties": found, "additionalProperties": False}


def _kind(hint: Any) -> dict[str, Any]:
    """The schema of a field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = [x for x in arguments[1:] if isinstance(x, Bound)]
        return functools.reduce(_bounded, bounds, _kind(arguments[0]))
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_kind(each) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _kind(arguments[0])}
    return dict(_PLAIN.get(hint, {}))


def _bounded(kind: dict[str, Any], bound: Bound) -> dict[str, Any]:
    """With a bound: of a number, of each in a list, of those among several kinds."""
    if "anyOf" in kind:
        return {"anyOf": [_bounded(each, bound) for each in kind["anyOf"]]}
    if kind.get("type") == "array":
        return kind | {"items": _bounded(kind["items"], bound)}
    if kind.get("type") not in ("integer", "number"):
        return kind
    low = "exclusiveMinimum" if bound.above else "minimum"
    high = "exclusiveMaximum" if bound.below else "maximum"
    ends = {low: bound.low, high: bound.high}
    return kind | {name: end for name, end in ends.items() if math.isfinite(end)}


@functools.cache
def _helps(kind: type) -> dict[str, str]:
    """The text after each field, by the field's name; those of a class hold against
    those that it inherits."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError, ValueError, SyntaxError):
            continue  # one that was made at run time
        for field, text in zip(node.body, node.body[1:], strict=False):  # type: ignore
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                name, value = ast.unparse(field.target), ast.literal_eval(text.value)
                found[name] = " ".join(str(value).split())
    return found
