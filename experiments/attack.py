"""``python -m experiments.attack FOLDER --forget-file FILE [options]``."""

import sys
from collections.abc import Sequence

from experiments.config import from_file
from experiments.config.attacked import Options, of_run
from experiments.shell import command_line, helps, signals

MODULE = "experiments.attack"
DESCRIPTION = """What can still be got out of an unlearned language model.

Attacks a Hugging Face folder of the Llama family, unlearned by whatever tool. Without
the model that never saw the forget rows (--retain-model) nothing says what can be
guessed; with the one before unlearning (--target-model) a finding is a share of it.

Leaves attacks.json in --output-dir. Run it again to go on where it stopped."""


def parse(arguments: Sequence[str]) -> Options:
    """What the command line asks for; exits with a message if it is wrong."""
    kinds = {"": helps.blank(Options)}
    words, kinds = from_file.configured(arguments, kinds, of_run)
    return command_line.parsed(kinds, MODULE, words, DESCRIPTION)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    work = lambda: _run(options)
    return command_line.status(work, MODULE, arguments, options.output_dir)


def _run(options: Options) -> None:
    # Imported late, so that --help and a wrong option answer at once.
    from experiments.pipeline.attack_folder import attack_folder
    from experiments.stages import lock

    command_line.check_numbers(options)
    with lock.held(options.output_dir):
        attack_folder(options)


if __name__ == "__main__":
    signals.leave(main)
