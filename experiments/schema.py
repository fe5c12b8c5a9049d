"""``python -m experiments.schema NAME``: the JSON Schema of a file that runs leave."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal, get_args

import tyro

from experiments.config import schema as config
from experiments.shell import command_line, helps, program, signals

Name = Literal["config", "report", "record", "sequence"]
# Package, and the file in it; that of config.json is made of the options' dataclasses.
FILES = {
    "report": ("experiments.report", "report.schema.json"),
    "record": ("experiments.deletion", "deletion.schema.json"),
    "sequence": ("experiments.sequence", "sequence.schema.json"),
}


def schema_of(name: Name) -> dict[str, Any]:
    """A schema; its ``$id`` ends in its version."""
    if name == "config":
        return config.schema()
    package, file = FILES[name]
    return json.loads(resources.files(package).joinpath(file).read_text("utf-8"))


@dataclasses.dataclass(frozen=True)
class Options:
    """Prints the JSON Schema of a file that runs leave, or writes all four of them.

    An editor completes and checks files for --config by config.schema.json."""

    name: tyro.conf.Positional[Name | None] = None
    """config: of config.json and files for --config; report: of report.json; record: of
    the deletion record, deletion.json; sequence: of several requests, sequence.json."""
    output_dir: pathlib.Path | None = None
    """Write NAME.schema.json into this folder; without NAME, all four."""


def written(folder: pathlib.Path, names: Sequence[Name]) -> list[pathlib.Path]:
    """Writes schemas as ``NAME.schema.json``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        paths.append(folder / f"{name}.schema.json")
        paths[-1].write_text(_text(name), encoding="utf-8")
    return paths


def _text(name: Name) -> str:
    return json.dumps(schema_of(name), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    words = [helps.HELP if word == helps.ALL else word for word in words]
    if helps.VERSION in words:
        helps.version()
    prog = program.name("experiments.schema")
    options = tyro.cli(Options, prog=prog, args=words, registry=helps.registry({}))
    names = get_args(Name) if options.name is None else (options.name,)
    if options.output_dir is not None:
        return command_line.tried(lambda: _write(options.output_dir, names))
    if options.name is None:
        known = ", ".join(names)
        print(f"error: name a schema ({known}), or an --output-dir", file=sys.stderr)
        return 2
    print(_text(options.name), end="")
    return 0


def _write(folder: pathlib.Path, names: Sequence[Name]) -> None:
    for path in written(folder, names):
        print(path)


if __name__ == "__main__":
    signals.leave(main)
