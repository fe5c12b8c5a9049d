"""``python -m experiments.schema NAME``: the JSON Schema of a file that runs leave."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal

import tyro

from experiments.config import schema as config
from experiments.shell import program, signals

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


def _print(name: tyro.conf.Positional[Name], /) -> None:
    """Prints the JSON Schema of config.json, of report.json, of the deletion record
    (deletion.json), or of the result of several requests (sequence.json)."""
    print(json.dumps(schema_of(name), indent=1, ensure_ascii=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    tyro.cli(_print, prog=program.name("experiments.schema"), args=arguments)
    return 0


if __name__ == "__main__":
    signals.leave(main)
