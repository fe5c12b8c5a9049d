"""``python -m experiments.attack FOLDER --forget-file FILE [options]``."""

import sys
from collections.abc import Sequence

from experiments.config import from_file
from experiments.config.attacked import Options, of_run
from experiments.shell import command_line, helps, signals

MODULE = "experiments.attack"
DESCRIPTION = """What can still be got out of an unlearned language model.

Attacks any Hugging Face folder of the Llama family, unlearned by whatever tool: further
training, compression, other questions, a look inside. Without the model that never saw
the forget rows (--retain-model) nothing says how much of what an attack finds can be
guessed; with the model before unlearning (--target-model) it is told as a share of what
was to go. Leaves attacks.json in --output-dir and prints a table. Run it again to go on
where it stopped.

The best that can be said of a model is that there was no recovery under these attacks
at this budget. docs/attacks.md says what each of them is."""


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
