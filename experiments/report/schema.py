"""Validation of a report against the schema that `experiments.report` describes."""

import datetime
import numbers
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SCHEMA_VERSION = 1
ROLES = ("target", "retrained", "unlearned")
COSTS = ("seconds", "gradient_evaluations", "peak_bytes")  # of a model

Check = Callable[[Any, str], None]


def validate_report(report: Any) -> None:
    """Checks a report; keys that the schema does not name are left alone.

    Raises:
      ValueError: naming the path of the first value that is wrong, such as
        ``models[2].metrics.forget_Q_A_Prob``, what it is and what it has to be.
    """
    _mapping(report, "report")
    version = report.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(
            f"schema_version is {version!r}; this code reads {SCHEMA_VERSION}: make "
            "the report again with the version of the code that is installed."
        )
    _fields(report, "", _REPORT, _REPORT_OPTIONAL)
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


def _fail(path: str, value: Any, wanted: str) -> None:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    raise ValueError(f"{path} is {shown}; it must be {wanted}.")


def _fields(
    value: Any,
    path: str,
    required: Mapping[str, Check],
    optional: Mapping[str, Check] | None = None,
) -> None:
    _mapping(value, path or "report")
    for name, check in required.items():
        where = f"{path}.{name}" if path else name
        if name not in value:
            raise ValueError(f"{where} is missing; the schema requires it.")
        check(value[name], where)
    for name, check in (optional or {}).items():
        if value.get(name) is not None:
            check(value[name], f"{path}.{name}" if path else name)


def _text(value: Any, path: str) -> None:
    if not isinstance(value, str):
        _fail(path, value, "text")


def _name(value: Any, path: str) -> None:
    if not isinstance(value, str) or not value.strip():
        _fail(path, value, "text that is not empty")


def _boolean(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        _fail(path, value, "true or false")


def _integer(value: Any, path: str) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        _fail(path, value, "an integer")


def _number(value: Any, path: str) -> None:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        _fail(path, value, "a number")


def _number_or_null(value: Any, path: str) -> None:
    if value is not None:
        _number(value, path)


def _date(value: Any, path: str) -> None:
    try:
        datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        _fail(path, value, "a date and time in ISO 8601, as 2025-01-31T12:00:00+00:00")


def _relative_path(value: Any, path: str) -> None:
    _name(value, path)
    if pathlib.PurePosixPath(value).is_absolute() or ":" in value.split("/")[0]:
        _fail(path, value, "a path relative to the report")


def _mapping(value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        _fail(path, value, "an object")
    for key in value:
        if not isinstance(key, str):
            _fail(f"a key of {path}", key, "text")


def _list(item: Check) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            _fail(path, value, "a list")
        for index, entry in enumerate(value):
            item(entry, f"{path}[{index}]")

    return check


def _values(item: Check) -> Check:
    def check(value: Any, path: str) -> None:
        _mapping(value, path)
        for key, entry in value.items():
            item(entry, f"{path}.{key}")

    return check


def _one_of(*allowed: str) -> Check:
    def check(value: Any, path: str) -> None:
        if value not in allowed:
            _fail(path, value, f"one of {', '.join(allowed)}")

    return check


def _interval(value: Any, path: str) -> None:
    _list(_number_or_null)(value, path)
    if len(value) != 2:
        _fail(path, value, "a pair [low, high]")
    low, high = value
    if low is not None and high is not None and low > high:
        _fail(path, value, "a pair [low, high] in this order")


def _trajectory(value: Any, path: str) -> None:
    if isinstance(value, str):
        _relative_path(value, path)
        return
    _list(_trajectory_row)(value, path)


def _trajectory_row(value: Any, path: str) -> None:
    _fields(value, path, {"step": _integer, "gradient_evaluations": _number})
    _values(_number_or_null)(value, path)


def _statistic(value: Any, path: str) -> None:
    ends = {"low": _number_or_null, "high": _number_or_null}
    _fields(value, path, {"mean": _number_or_null, **ends, "n": _integer})


def _model(value: Any, path: str) -> None:
    required = {
        "role": _one_of(*ROLES),
        "method": _name,
        "seed": _integer,
        "metrics": _values(_number_or_null),
    }
    optional = {
        "run": _name,
        "intervals": _values(_interval),
        "missing": _list(_text),
        "notes": _list(_text),
        "seconds": _number,
        "gradient_evaluations": _number,
        "peak_bytes": _integer,
        "outer_steps": _integer,
        "forget_target": _number,
        "equivalence_margin": _number,
        "stopped": _text,
        "export": _relative_path,
        "trajectory": _trajectory,
    }
    _fields(value, path, required, optional)


def _summary_row(value: Any, path: str) -> None:
    _fields(
        value,
        path,
        {
            "method": _name,
            "role": _one_of(*ROLES),
            "seeds": _integer,
            "metrics": _values(_statistic),
        },
        {"run": _name, **dict.fromkeys(COSTS, _statistic)},
    )


def _comparison(value: Any, path: str) -> None:
    agreement = {"spearman": _number_or_null, "kendall": _number_or_null}
    _fields(
        value,
        path,
        {
            "aggregate": _name,
            "seeds": _list(_integer),
            "methods": _list(_compared),
            "agreement": _list(
                lambda v, p: _fields(v, p, {"seeds": _list(_integer), **agreement})
            ),
        },
    )


def _compared(value: Any, path: str) -> None:
    required = {
        "method": _name,
        "rank": _statistic,
        "forget_quality_p": _statistic,
    }
    optional = {
        "run": _name,
        "first_probability": _number,
        "on_pareto_front": _boolean,
        "equivalence": _equivalence,
    }
    _fields(value, path, required, optional)


def _equivalence(value: Any, path: str) -> None:
    required = {"margin": _number, "seeds_shown": _integer, "seeds": _integer}
    _fields(value, path, required, {"p_value": _number, "holds": _boolean})


def _claim(value: Any, path: str) -> None:
    _fields(value, path, {"text": _name, "holds": _boolean, "evidence": _text})


def _data(value: Any, path: str) -> None:
    _fields(value, path, {"name": _name, "counts": _values(_integer)})


_REPORT: dict[str, Check] = {
    "title": _name,
    "created": _date,
    "command": _text,
    "recipe": _mapping,
    "environment": _mapping,
    "data": _data,
    "models": _list(_model),
    "claims": _list(_claim),
}
_REPORT_OPTIONAL: dict[str, Check] = {
    "summary": _list(_summary_row),
    "comparison": _comparison,
    "not_finite": _list(_text),
    "notes": _list(_text),
}
