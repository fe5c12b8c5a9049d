"""``python -m experiments.run [demo | tofu | request | cifar] [options]``."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from experiments import interrupts
from experiments.recipes import Demo, LanguageRun, Request, Tofu
from experiments.vision_config import Cifar

Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Tofu, tyro.conf.subcommand("tofu")]
    | Annotated[Request, tyro.conf.subcommand("request")]
    | Annotated[Cifar, tyro.conf.subcommand("cifar")]
)
DESCRIPTION = """Machine unlearning with OFMU, measured.

Without a command: the embedded demo. Every command trains (or takes) a target model
and the reference that never saw the forget rows, unlearns with each method, evaluates,
and leaves report.html, report.json, checkpoints and Hugging Face folders in
--output-dir. Run it again to go on where it stopped."""


def parse(arguments: Sequence[str]) -> LanguageRun | Cifar:
    """The run that the command line asks for; exits with a message if it is wrong."""
    arguments = list(arguments)
    helps = ("-h", "--help")
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in helps):
        arguments.insert(0, "demo")
    return tyro.cli(
        Command,
        prog="python -m experiments.run",
        description=DESCRIPTION,
        args=arguments,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    run = parse(arguments)
    work = lambda: _run(run)
    return interrupts.guarded(work, "experiments.run", arguments, run.output_dir)


def _run(run: LanguageRun | Cifar) -> int:
    # Imported late, so that --help and a wrong option answer at once.
    from experiments import logs
    from ofmu_jax.distributed import OtherProcessError

    try:
        if isinstance(run, Cifar):
            from experiments.vision_run import run_vision

            run_vision(run)
        else:
            from experiments import scale
            from experiments.language_run import run_language

            scale.join(run)
            run_language(run)
    except (ValueError, FloatingPointError, OSError, OtherProcessError) as error:
        logs.error(error)
        return 2
    except interrupts.Interrupted:
        raise
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
