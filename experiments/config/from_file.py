"""``--config FILE``: options out of a file, the command line on top of them.

The file has the names of the options, nested or with dots, in YAML, TOML or JSON; the
``config.json`` that a run leaves is one. ``command`` says which command they are of.
"""

import json
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.config import stored
from experiments.config.common import Run

FLAG = "--config"
# YAML 1.1 calls 1e-5 a text: it wants a dot, and a sign after the e.
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def split(arguments: Sequence[str]) -> tuple[list[str], pathlib.Path | None]:
    """The command line without ``--config FILE``, and the file.

    >>> split(["tofu", "--config", "a.yaml", "--seeds", "1"])[0]
    ['tofu', '--seeds', '1']

    Raises:
      ValueError: no file is named, or two are.
    """
    others, files, words = [], [], iter(arguments)
    for word in words:
        name, sign, value = word.partition("=")
        if name != FLAG:
            others.append(word)
            continue
        value = value if sign else next(words, "")
        if not value or value.startswith("--"):
            raise ValueError(f"{FLAG} names no file; write {FLAG} run.yaml.")
        files.append(pathlib.Path(value))
    if len(files) > 1:
        raise ValueError(f"{FLAG} is given {len(files)} times; give one file.")
    return others, files[0] if files else None


def configured(
    arguments: Sequence[str], commands: Sequence[str] = tuple(stored.COMMANDS)
) -> tuple[list[str], Run | None]:
    """The command line without ``--config FILE``, and the run of the file.

    Exits with a message if the file is wrong.

    Args:
      commands: those that there are.
    """
    try:
        words, path = split(arguments)
        if path is None:
            return words, None
        named = words[0] if words and not words[0].startswith("-") else None
        run = run_of(path, named)
        if run.command not in commands:
            raise ValueError(
                f"{FLAG} {path} is of {run.command}, which this command does not know; "
                f"it knows {', '.join(commands)}."
            )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return words, run


def run_of(path: pathlib.Path, command: str | None) -> Run:
    """The run that a file configures; what it leaves out keeps its default.

    The methods' options of the file count as given, as on a command line. Of a run's
    own ``config.json`` those do that were given there, and its methods, if they were
    tuned, are as they came out of it: they are not tuned again. Nothing is pushed.

    Args:
      command: of the command line, if it names one.

    Raises:
      ValueError: the file cannot be read, is of another command, or has an option that
        there is not.
    """
    values = read(path) | {"config": str(path)}
    named = values.pop("command", command)
    if named is None:
        raise ValueError(
            f'{FLAG} {path} names no command; write it first, or "command" into the '
            f"file: one of {', '.join(stored.COMMANDS)}."
        )
    if command not in (None, named):
        raise ValueError(
            f"{FLAG} {path} is of {named}, and the command line of {command}; leave "
            "the command out, or take another file."
        )
    left_by_a_run = "explicit" in values
    if left_by_a_run:
        values |= {"tune": 0, "push_to_hub": None, "push_public": False}
    kind = stored.COMMANDS.get(named)
    if kind is not None:
        values = _grouped(values, kind)
    try:
        run = stored.run_from_json({"command": named, **values})
    except ValueError as error:
        raise ValueError(f"{FLAG} {path}: {error}") from None
    given = [] if left_by_a_run else [f"--{path}" for path in _paths(values, run)]
    return run.told(given)


def read(path: pathlib.Path) -> dict[str, Any]:
    """The options of a file, nested, with the names that fields have.

    Raises:
      ValueError: there is no such file, it is of another kind, or not well-formed.
    """
    try:
        values = _parsed(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{FLAG} {path} cannot be read: {error}") from None
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{FLAG} {path} holds no options; it must be a mapping of names to values."
        )
    return _nested(values)


def _parsed(path: pathlib.Path) -> Any:
    text, kind = path.read_text(encoding="utf-8"), path.suffix.lower()
    if kind == ".json":
        return json.loads(text)
    if kind == ".toml":
        return tomllib.loads(text)
    if kind not in (".yaml", ".yml"):
        raise ValueError(f"its name ends in {kind!r}; use .yaml, .toml or .json.")
    import yaml  # late: a command line without such a file does without

    try:
        return _numbers(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _numbers(value: Any) -> Any:
    """What YAML 1.1 read as texts and everyone writes as numbers."""
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        return float(value)
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    return value


def _nested(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Names with dots as mappings, and hyphens as underscores.

    >>> _nested({"npo.loss": {"beta": 0.1}, "npo": {"learning-rate": 1e-5}})
    {'npo': {'loss': {'beta': 0.1}, 'learning_rate': 1e-05}}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        head, _, rest = str(name).replace("-", "_").partition(".")
        value = _nested({rest: value}) if rest else value
        value = _nested(value) if isinstance(value, Mapping) else value
        found = _merged(found, {head: value})
    return found


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(ours)
    for name, value in theirs.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = _merged(found[name], value) if both else value
    return found


def _grouped(values: Mapping[str, Any], kind: type[Run]) -> dict[str, Any]:
    """Methods where the run has them: on a command line their group has no name."""
    run = kind()
    fields = vars(getattr(run, run.group))
    moved = {name: values[name] for name in values if name in fields}
    kept = {name: value for name, value in values.items() if name not in fields}
    if not moved:
        return kept
    return kept | {run.group: _merged(kept.get(run.group, {}), moved)}


def _paths(values: Mapping[str, Any], run: Run) -> Iterator[str]:
    """The options of a file by the names that they have on a command line."""
    for name, value in values.items():
        if not isinstance(value, Mapping):
            yield name
        elif name == run.group:
            yield from _paths(value, run)
        else:
            yield from (f"{name}.{path}" for path in _paths(value, run))
