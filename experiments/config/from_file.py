"""``--config FILE``: options out of a file, the command line on top of them.

The file has the names of the options, nested or with dots, in YAML, TOML or JSON; the
``config.json`` that a run leaves is one. ``command`` says which command they are of.
Other commands read the file of a run as well, as far as it concerns them.
"""

import dataclasses
import json
import pathlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from experiments.config import stored
from experiments.config.common import Run

FLAG = "--config"
Config = TypeVar("Config")
OfRun = Callable[[Any, Run], Any]  # (options at their defaults, run) -> options
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
    arguments: Sequence[str],
    kinds: Mapping[str, Any],
    of_run: OfRun | None = None,
) -> tuple[list[str], Mapping[str, Any]]:
    """The command line without ``--config FILE``, and the options that the file says.

    Exits with a message if the file is wrong.

    Args:
      kinds: subcommand -> its options at their defaults; "" where there is none.
      of_run: the options that follow from the file of a run of `experiments.run`;
        None: such a file is of no use here.

    Returns:
      The words, behind the subcommand that the file names; and ``kinds`` with the
      options of the file in place of the defaults.
    """
    try:
        words, path = split(arguments)
        if path is None:
            return words, kinds
        return _configured(words, path, kinds, of_run)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _configured(
    words: list[str],
    path: pathlib.Path,
    kinds: Mapping[str, Any],
    of_run: OfRun | None,
) -> tuple[list[str], Mapping[str, Any]]:
    values = read(path)
    given = words[0] if words and words[0] in kinds else None
    named = values.pop("command", given)
    if "" in kinds:
        named = named or ""
    if named is None:
        raise ValueError(
            f'{FLAG} {path} names no command; write it first, or "command" into the '
            f"file: one of {', '.join(kinds)}."
        )
    if of_run is not None and named in stored.COMMANDS:
        run = options_of(path, values, stored.COMMANDS[named]())
        kind = next(iter(kinds)) if given is None else given
        try:
            return words, {**kinds, kind: of_run(kinds[kind], run)}
        except ValueError as error:
            raise ValueError(f"{FLAG} {path}: {error}") from None
    if named not in kinds:
        raise ValueError(
            f"{FLAG} {path} is of {named}, which this command does not know; it knows "
            f"{', '.join(kinds) or 'no others'}."
        )
    if given not in (None, named):
        raise ValueError(
            f"{FLAG} {path} is of {named}, and the command line of {given}; leave "
            "the command out, or take another file."
        )
    found = options_of(path, values, kinds[named])
    behind = [named, *words[given is not None :]] if named else words
    return behind, {**kinds, named: found}


def options_of(path: pathlib.Path, values: Mapping[str, Any], like: Config) -> Config:
    """The options that a file says; what it leaves out is as in ``like``.

    The methods' options of the file count as given, as on a command line. Of a run's
    own ``config.json`` those do that were given there, and its methods, if they were
    tuned, are as they came out of it: they are not tuned again. Nothing is pushed.

    Raises:
      ValueError: the file has an option that there is not, or another type of one.
    """
    left_by_a_run = "explicit" in values
    again: dict[str, Any] = {"tune": 0, "push_to_hub": None, "push_public": False}
    said = {**(again if left_by_a_run else {}), "config": str(path)}
    homes = _homes(like)
    known = {name: value for name, value in said.items() if name in homes}
    placed = _placed({**values, **known}, like)
    try:
        found = stored.filled(like, placed)
    except ValueError as error:
        raise ValueError(f"{FLAG} {path}: {error}") from None
    if left_by_a_run or not hasattr(found, "told"):
        return found
    return found.told([f"--{name}" for name in _paths(placed, found)])


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


def _placed(values: Mapping[str, Any], like: Any) -> dict[str, Any]:
    """The options where they lie: some groups have no name on a command line."""
    homes, found = _homes(like), {}
    for name, value in values.items():
        placed = {name: value}
        for group in reversed(homes.get(name, ())):
            placed = {group: placed}
        found = _merged(found, placed)
    return found


def _homes(like: Any) -> dict[str, tuple[str, ...]]:
    """Option -> groups without a name that it lies in, from the outermost on."""
    found: dict[str, tuple[str, ...]] = {}
    for field in dataclasses.fields(like):
        found[field.name] = ()
        if _unnamed(field.type):
            inner = _homes(getattr(like, field.name))
            found |= {name: (field.name, *path) for name, path in inner.items()}
    return found


def _unnamed(kind: Any) -> bool:
    """Whether a field's options have their names without its own."""
    return any(
        getattr(x, "name", None) == "" for x in getattr(kind, "__metadata__", ())
    )


def _paths(values: Mapping[str, Any], like: Any) -> Iterator[str]:
    """The options of a file by the names that they have on a command line."""
    kinds = {field.name: field.type for field in dataclasses.fields(like)}
    for name, value in values.items():
        if not isinstance(value, Mapping):
            yield name
        elif _unnamed(kinds.get(name)):
            yield from _paths(value, getattr(like, name))
        else:
            inner = _paths(value, getattr(like, name))
            yield from (f"{name}.{path}" for path in inner)
