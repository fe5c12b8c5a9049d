"""``python -m experiments.benchmark [cost | accelerator]``: times on this machine."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from experiments.shell import command_line, signals
from experiments.studies import accelerator, cost
from experiments.studies.shapes import Shape

Command = (
    Annotated[Shape, tyro.conf.subcommand("cost")]
    | Annotated[accelerator.Accelerator, tyro.conf.subcommand("accelerator")]
)
DESCRIPTION = """What each piece of OFMU costs (cost, which runs where nothing is
named), or whether an accelerator computes what the CPU does, and how fast."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or (arguments[0].startswith("--") and arguments[0] != "--help"):
        arguments.insert(0, "cost")
    config = tyro.cli(
        Command,
        prog="python -m experiments.benchmark",
        description=DESCRIPTION,
        args=arguments,
    )
    return command_line.tried(lambda: _measure(config))


def _measure(config: Shape | accelerator.Accelerator) -> None:
    command_line.check_numbers(config)
    if isinstance(config, Shape):
        cost.main(config)
    else:
        accelerator.main(config)


if __name__ == "__main__":
    signals.leave(main)
