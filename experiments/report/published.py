"""What every published file has: where it came from, without paths of the machine."""

import json
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

Outcomes = Mapping[str, Mapping[str, Any]]  # who -> what repeats, by name
RUN, ABLATIONS = "ofmu_jax.result", "ofmu_jax.ablations"
ATTACKS, BUDGETS = "ofmu_jax.attacks", "ofmu_jax.budgets"
WITH_RECIPE = (RUN, ABLATIONS)
VERSIONS = {RUN: 1, ABLATIONS: 1, ATTACKS: 1, BUDGETS: 1}
ENVIRONMENT = ("jax", "python", "devices", "cpu", "cores")


def header(
    schema: str, content: Mapping[str, Any], commit: str | None
) -> dict[str, Any]:
    """The first fields of a file: its kind, the command, the code and the machine.

    Args:
      schema: the kind of file.
      content: with the title, the command, … as the run left them.
      commit: of the code, where it is known.
    """
    environment = content["environment"]
    return {
        "schema": schema,
        "version": VERSIONS[schema],
        "title": content["title"],
        "created": content["created"],
        "command": without_paths(content["command"]),
        "code": {"ofmu_jax": environment.get("ofmu_jax"), "commit": commit},
        "environment": {k: environment[k] for k in ENVIRONMENT if k in environment},
        "data": content["data"],
        "recipe": content["recipe"],
    }


def source(content: Mapping[str, Any]) -> dict[str, Any]:
    """Command and machine of one of the runs that a file is made from."""
    place = content["environment"]
    names = ("ofmu_jax", *ENVIRONMENT)
    return {
        "command": without_paths(content["command"]),
        "environment": {name: place[name] for name in names if name in place},
    }


def runs_with(old: Mapping[str, Any], new: Mapping[str, Any], made: str) -> list[Any]:
    """The runs of a file and those that are added to it.

    Args:
      made: the field that lists what is of a run. What a new run made again is no
        longer of an old one; a run of which nothing is left goes.

    >>> runs_with({"runs": [{"a": [1, 2]}, {"a": [3]}]}, {"runs": [{"a": [2, 3]}]}, "a")
    [{'a': [1]}, {'a': [2, 3]}]
    """
    again = [entry for run in new["runs"] for entry in run[made]]
    left = lambda run: [entry for entry in run[made] if entry not in again]
    kept = [{**run, made: left(run)} for run in old["runs"] if left(run)]
    return [*kept, *new["runs"]]


def without_paths(command: str) -> str:
    """A command whose absolute paths are cut to their last component.

    >>> without_paths("python -m experiments.run tofu --data-dir /d/tofu --model=/m/a")
    'python -m experiments.run tofu --data-dir tofu --model=a'
    """
    words = []
    for word in shlex.split(command):
        option, equals, value = word.partition("=")
        if equals and option.startswith("--"):
            words.append(f"{option}={_last(value)}")
        else:
            words.append(_last(word))
    return shlex.join(words)


def cut(value: Any) -> Any:
    """JSON values with every absolute path cut."""
    if isinstance(value, Mapping):
        return {key: cut(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [cut(entry) for entry in value]
    return _last(value) if isinstance(value, str) else value


def _last(text: str) -> str:
    path = pathlib.PurePath(text)
    return path.name if path.is_absolute() or text.startswith("~") else text


def load(path: pathlib.Path, *schemas: str) -> dict[str, Any]:
    """Reads a published file.

    Args:
      path: of the file.
      *schemas: kinds that it may be of; without any, all that there are.

    Raises:
      ValueError: it is none, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no file of published results.")
    found = content.get("schema"), content.get("version")
    versions = [(schema, VERSIONS[schema]) for schema in schemas or VERSIONS]
    if found not in versions:
        raise ValueError(
            f"{path} has schema and version {found}; this code reads {versions}: "
            "publish it again."
        )
    return content


def differences(ours: Outcomes, theirs: Outcomes) -> list[str]:
    """Where ours are not exactly as those published; what is theirs alone is none.

    >>> differences({"npo, seed 0": {"a": 1}}, {"npo, seed 0": {"b": 2}})[0]
    'npo, seed 0: a is 1, published absent'
    """
    lines = []
    for key, values in ours.items():
        if key not in theirs:
            lines.append(f"{key}: not published")
            continue
        for name in dict.fromkeys((*values, *theirs[key])):
            a, b = (side.get(name, "absent") for side in (values, theirs[key]))
            if a != b:
                lines.append(f"{key}: {name} is {a}, published {b}")
    return lines
