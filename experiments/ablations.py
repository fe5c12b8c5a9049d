"""``python -m experiments.ablations [demo | tofu] [options]``."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import tyro

from experiments.ablation.grid import AblationOptions
from experiments.config import from_file
from experiments.config.language import Demo, LanguageRun, Tofu
from experiments.shell import command_line, signals

NO_PREFIX = tyro.conf.arg(name="")
OPTIONS, DEMO, TOFU = AblationOptions(), Demo(), Tofu()
EVERYDAY = tuple(f"run.{name}" for name in "output_dir seeds tune".split())
MODULE = "experiments.ablations"
LASTS = "some twenty times as long as that of experiments.run"
DESCRIPTION = """OFMU's parts, one change at a time, and the paper's three claims.

Every variant gets the budget, the seeds and the models of the run that the options
configure, which are those of experiments.run. Leaves ablations.json and ablations.html
in --output-dir. Models and finished variants there are used, not made again: run it
again to go on where it stopped. --methods and --export mean nothing here; --tune N
tunes the methods first, and what is varied is the tuned configuration."""


@dataclasses.dataclass(frozen=True)
class Ablations:
    """What both have in common."""

    specs: ClassVar = LanguageRun.specs
    everyday: ClassVar = ("ablation.groups", "ablation.evaluate", *EVERYDAY)

    ablation: Annotated[AblationOptions, NO_PREFIX] = OPTIONS
    run: Annotated[LanguageRun, NO_PREFIX] = DEMO

    def told(self, arguments: Sequence[str]) -> Self:
        """With the options of methods that a command line gives noted."""
        return dataclasses.replace(self, run=self.run.told(arguments))


@dataclasses.dataclass(frozen=True)
class DemoAblations(Ablations):
    """On built-in fictitious people, with a small model trained on the spot."""

    run: Annotated[Demo, NO_PREFIX] = DEMO


@dataclasses.dataclass(frozen=True)
class TofuAblations(Ablations):
    """On the authors of a TOFU forget split."""

    everyday: ClassVar = (*Ablations.everyday, "run.split", "run.data_dir")

    run: Annotated[Tofu, NO_PREFIX] = TOFU


def parse(arguments: Sequence[str]) -> Ablations:
    """What the command line asks for; exits with a message if it is wrong."""
    kinds = {"demo": DemoAblations(), "tofu": TofuAblations()}
    words, kinds = from_file.configured(arguments, kinds)
    found = command_line.parsed(
        *(kinds, MODULE, words, DESCRIPTION),
        bare="demo",
        said=f"this is the embedded demo; it takes {LASTS}.",
    )
    return found.told(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = parse(arguments)
    work = lambda: _run(command.run, command.ablation)
    return command_line.status(work, MODULE, arguments, command.run.output_dir)


def _run(run: LanguageRun, options: AblationOptions) -> None:
    # Imported late, so that --help and a wrong option answer at once.
    from experiments.ablation.execute import run_ablations
    from experiments.domains.language import mesh
    from experiments.stages import lock

    mesh.join(run)
    with lock.held(run.output_dir):
        run_ablations(run, options)


if __name__ == "__main__":
    signals.leave(main)
