"""``python -m experiments.benchmark [cost | growth | evaluation | loading | …]``."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

from experiments.shell import command_line, program, signals
from experiments.studies import accelerator, cost, evaluation, growth, loading

MAINS: dict[type, Callable[[Any], None]] = {
    cost.Costs: cost.main,
    growth.Growth: growth.main,
    evaluation.Evaluated: evaluation.main,
    loading.Loading: loading.main,
    accelerator.Accelerator: accelerator.main,
}
Command = (
    Annotated[cost.Costs, tyro.conf.subcommand("cost")]
    | Annotated[growth.Growth, tyro.conf.subcommand("growth")]
    | Annotated[evaluation.Evaluated, tyro.conf.subcommand("evaluation")]
    | Annotated[loading.Loading, tyro.conf.subcommand("loading")]
    | Annotated[accelerator.Accelerator, tyro.conf.subcommand("accelerator")]
)
DESCRIPTION = """Times and memory on this machine: what methods and pieces of OFMU cost
(cost, which runs where nothing is named), how the time of an update grows (growth),
what an evaluation of TOFU takes (evaluation), what the host holds while a model is
loaded and written (loading), whether an accelerator computes what the CPU does, and how
fast (accelerator)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or (arguments[0].startswith("--") and arguments[0] != "--help"):
        arguments.insert(0, "cost")
    config = tyro.cli(
        Command,
        prog=program.name("experiments.benchmark"),
        description=DESCRIPTION,
        args=arguments,
    )
    return command_line.tried(lambda: _measure(config))


def _measure(config: Any) -> None:
    command_line.check_numbers(config)
    MAINS[type(config)](config)


if __name__ == "__main__":
    signals.leave(main)
