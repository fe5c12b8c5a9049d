"""``python -m experiments.run [demo | tofu | request | choices | cifar] [options]``."""

import sys
from collections.abc import Sequence

from experiments.config import from_file
from experiments.config.common import Run
from experiments.config.language import LanguageRun, Request
from experiments.config.sequence import is_sequence
from experiments.config.stored import COMMANDS
from experiments.shell import command_line, signals

MODULE = "experiments.run"
LASTS = "some six minutes on two cores"
DESCRIPTION = """Machine unlearning with OFMU, measured.

Without a command: the embedded demo. Every command trains (or takes) a target model
and the reference that never saw the forget rows, unlearns with each method, evaluates,
and leaves report.html, report.json, checkpoints and Hugging Face folders in
--output-dir. Run it again to go on where it stopped.

Exit status: 0, done; 3, done, but no method forgot (each did not reach its target,
broke off or destroyed the model, or there was nothing to forget); 2, an error; 130,
Ctrl-C."""


def parse(arguments: Sequence[str]) -> Run:
    """The run that the command line asks for; exits with a message if it is wrong."""
    kinds = {name: kind() for name, kind in COMMANDS.items()}
    words, kinds = from_file.configured(arguments, kinds)
    run = command_line.parsed(
        *(kinds, MODULE, words, DESCRIPTION),
        bare="demo",
        said=f"this is the embedded demo; it takes {LASTS}.",
    )
    return run.told(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    run = parse(arguments)
    return command_line.status(lambda: _run(run), MODULE, arguments, run.output_dir)


def _run(run: Run) -> int:
    # Imported late, so that --help and a wrong option answer at once.
    from experiments.pipeline.execute import execute, status
    from experiments.stages import lock

    if isinstance(run, Request) and run.template is not None:
        from experiments.domains import template
        from experiments.shell import console

        console.result(template.write(run))
        return 0
    if isinstance(run, LanguageRun):
        from experiments.domains.language import mesh

        mesh.join(run)
    with lock.held(run.output_dir):
        if is_sequence(run):
            from experiments.sequence import execute as sequence

            return sequence.status(sequence.execute(run))
        return status(execute(run))


if __name__ == "__main__":
    signals.leave(main)
