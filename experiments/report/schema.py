"""Validation of a report against ``report.schema.json``, which says what it has."""

import datetime
import json
import numbers
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, cast

import jsonschema
from jsonschema.validators import extend

SCHEMA_VERSION = 1
_FILE = resources.files("experiments.report").joinpath("report.schema.json")
_KINDS = {  # of Python's values: a report may hold tuples and numbers of NumPy
    "object": lambda v: isinstance(v, Mapping) and all(isinstance(k, str) for k in v),
    "array": lambda v: isinstance(v, Sequence) and not isinstance(v, str | bytes),
    "number": lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool),
    "integer": lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool),
}
_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _date(value: Any) -> bool:
    return not isinstance(value, str) or bool(datetime.datetime.fromisoformat(value))


@_FORMATS.checks("interval", raises=TypeError)
def _interval(value: Any) -> bool:
    low, high = value
    return low is None or high is None or not low > high


def _validator() -> jsonschema.Draft202012Validator:
    base = jsonschema.Draft202012Validator
    checks = {name: lambda _, v, is_=is_: is_(v) for name, is_ in _KINDS.items()}
    kind = extend(base, type_checker=base.TYPE_CHECKER.redefine_many(checks))
    schema = json.loads(_FILE.read_text(encoding="utf-8"))
    whole = _without_references(schema, schema.pop("$defs"))
    return kind(whole, format_checker=_FORMATS)


def _without_references(value: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema with definitions put in: looking one up takes longer than its check."""
    if isinstance(value, list):
        return [_without_references(v, definitions) for v in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        name = value["$ref"].removeprefix("#/$defs/")
        rest = {k: v for k, v in value.items() if k != "$ref"}
        return _without_references(definitions[name] | rest, definitions)
    return {k: _without_references(v, definitions) for k, v in value.items()}


_VALIDATOR = _validator()


def validate_report(report: Any) -> None:
    """Checks a report; keys that the schema does not name are left alone.

    Raises:
      ValueError: naming the path of the first value that is wrong, such as
        ``models[2].metrics.forget_Q_A_Prob``, what it is and what it has to be.
    """
    version = report.get("schema_version") if isinstance(report, Mapping) else 1
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(
            f"schema_version is {version!r}; this code reads {SCHEMA_VERSION}: make "
            "the report again with the version of the code that is installed."
        )
    for error in _VALIDATOR.iter_errors(report):
        raise ValueError(_message(error))
    seen: dict[tuple, str] = {}
    for index, model in enumerate(report["models"]):
        path = f"models[{index}]"
        key = tuple(model.get(k) for k in ("run", "role", "method", "seed"))
        if key in seen:
            raise ValueError(
                f"{path} has the role, method and seed of {seen[key]}; give every run "
                "a seed of its own."
            )
        seen[key] = path


def _message(error: jsonschema.ValidationError) -> str:
    value, schema = cast(Any, error.instance), cast(Any, error.schema)
    steps = list(error.absolute_path)
    if error.validator == "required":
        steps.append(next(name for name in schema["required"] if name not in value))
    parts = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    path = "".join(parts).removeprefix(".") or "report"
    if error.validator == "required":
        return f"{path} is missing; the schema requires it."
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{path} is {shown}; it must be {schema['title']}."
