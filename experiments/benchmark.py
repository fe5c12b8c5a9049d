"""``python -m experiments.benchmark [cost | accelerator | growth]``: times here."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from experiments.shell import command_line, signals
from experiments.studies import accelerator, cost, growth

Command = (
    Annotated[cost.Costs, tyro.conf.subcommand("cost")]
    | Annotated[accelerator.Accelerator, tyro.conf.subcommand("accelerator")]
    | Annotated[growth.Growth, tyro.conf.subcommand("growth")]
)
DESCRIPTION = """What methods and pieces of OFMU cost (cost, which runs where nothing is
named), whether an accelerator computes what the CPU does, and how fast (accelerator),
or how the time of an update grows (growth)."""


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


def _measure(config: cost.Costs | accelerator.Accelerator | growth.Growth) -> None:
    command_line.check_numbers(config)
    if isinstance(config, cost.Costs):
        cost.main(config)
    elif isinstance(config, growth.Growth):
        growth.main(config)
    else:
        accelerator.main(config)


if __name__ == "__main__":
    signals.leave(main)
