"""What every published file has: where it came from, without paths of the machine."""

import json
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import ofmu_jax.version
from experiments.shell import provenance

ENVIRONMENT = ("jax", "python", "devices", "cpu", "cores")


def header(
    schema: str, version: int, content: Mapping[str, Any], commit: str | None
) -> dict[str, Any]:
    """The first fields of a file: its kind, the command, the code and the machine.

    Args:
      schema: the kind of file.
      version: of the kind.
      content: with the title, the command, … as the run left them.
      commit: of the code, where it is known.
    """
    environment = content["environment"]
    return {
        "schema": schema,
        "version": version,
        "title": content["title"],
        "created": content["created"],
        "command": without_paths(content["command"]),
        "code": {"ofmu_jax": environment.get("ofmu_jax"), "commit": commit},
        "environment": {k: environment[k] for k in ENVIRONMENT if k in environment},
        "data": content["data"],
        "recipe": content["recipe"],
    }


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


def load(path: pathlib.Path, versions: Mapping[str, int]) -> dict[str, Any]:
    """Reads a published file.

    Args:
      path: of the file.
      versions: the schemas that may be, with the version of each.

    Raises:
      ValueError: it is none, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    schema, version = content.get("schema"), content.get("version")
    if schema not in versions or versions[schema] != version:
        raise ValueError(
            f"{path} has schema and version {(schema, version)}; this code reads "
            f"{list(versions.items())}: publish it again."
        )
    return content


def commit_of_code() -> str | None:
    """The commit that the package lies in, with ``-dirty`` where files differ."""
    state = provenance.git_state(pathlib.Path(ofmu_jax.version.__file__))
    commit = state["git_commit"]
    return f"{commit}-dirty" if commit and state["git_changed"] else commit
