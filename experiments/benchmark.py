"""``python -m experiments.benchmark [cost | growth | evaluation | loading | …]``."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.config import from_file
from experiments.publishing import run as publishing
from experiments.shell import command_line, provenance, signals
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
NAMES = ("cost", "growth", "evaluation", "loading", "accelerator", "forget10")
MODULE = "experiments.benchmark"
DESCRIPTION = """Times and memory on this machine: what methods and pieces of OFMU cost
(cost, which runs where nothing is named), how the time of an update grows (growth),
what an evaluation of TOFU takes (evaluation), what the host holds while a model is
loaded and written (loading), whether an accelerator computes what the CPU does, and how
fast (accelerator). And a study for an accelerator: a pretrained model on all of TOFU,
forget10 with all methods, within minutes (forget10)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    kinds = {name: kind() for name, kind in zip(NAMES, MAINS, strict=True)}
    words, kinds = from_file.configured(arguments, kinds)
    config = command_line.parsed(kinds, MODULE, words, DESCRIPTION, bare="cost")
    if isinstance(config, study.Forget10):
        config = config.told(words)
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
