"""``python -m experiments.benchmark [cost | growth | evaluation | loading | …]``."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import tyro

from experiments.publishing import run as publishing
from experiments.shell import command_line, program, provenance, signals
from experiments.studies import accelerator, cost, evaluation, growth, loading
from experiments.studies.forget10 import study

MAINS: dict[type, Callable[[Any], None]] = {
    cost.Costs: cost.main,
    growth.Growth: growth.main,
    evaluation.Evaluated: evaluation.main,
    loading.Loading: loading.main,
    accelerator.Accelerator: accelerator.main,
    study.Forget10: lambda config: study.main(config, published),
}
Command = (
    Annotated[cost.Costs, tyro.conf.subcommand("cost")]
    | Annotated[growth.Growth, tyro.conf.subcommand("growth")]
    | Annotated[evaluation.Evaluated, tyro.conf.subcommand("evaluation")]
    | Annotated[loading.Loading, tyro.conf.subcommand("loading")]
    | Annotated[accelerator.Accelerator, tyro.conf.subcommand("accelerator")]
    | Annotated[study.Forget10, tyro.conf.subcommand("forget10")]
)
DESCRIPTION = """Times and memory on this machine: what methods and pieces of OFMU cost
(cost, which runs where nothing is named), how the time of an update grows (growth),
what an evaluation of TOFU takes (evaluation), what the host holds while a model is
loaded and written (loading), whether an accelerator computes what the CPU does, and how
fast (accelerator). And a study for an accelerator: a pretrained model on all of TOFU,
forget10 with all methods, within minutes (forget10)."""


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
    if isinstance(config, study.Forget10):
        config = config.told(arguments)
    return command_line.tried(lambda: _measure(config))


def published(content: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The content of a report as a published file, and as a page."""
    found = publishing.distil(content, provenance.commit())
    return found, publishing.section(found["title"], found)


def _measure(config: Any) -> None:
    command_line.check_numbers(config)
    MAINS[type(config)](config)


if __name__ == "__main__":
    signals.leave(main)
