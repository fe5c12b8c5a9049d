"""``python -m experiments.attack FOLDER --forget-file FILE [options]``."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import tyro

from experiments.config import from_file
from experiments.config.attacks import AttackConfig
from experiments.config.common import Run
from experiments.config.language import EvalConfig, Request
from experiments.shell import command_line, helps, signals
from ofmu_jax.bounds import Bound

ATTACK, EVALUATION = AttackConfig(), EvalConfig(max_new_tokens=200)
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


@dataclasses.dataclass(frozen=True)
class Options:
    """Options have the names and meanings of experiments.run request."""

    everyday: ClassVar = (
        *("folder", "forget_file", "retain_file", "holdout_file", "retain_model"),
        *("target_model", "attacks", "output_dir", "dtype"),
    )

    folder: Annotated[str, tyro.conf.Positional]
    """Folder or hub name of the model to attack."""
    forget_file: pathlib.Path
    """JSON lines with question and answer: what it is to have forgotten."""
    retain_file: pathlib.Path | None = None
    """The same fields: what it has kept, which some attacks train on."""
    holdout_file: pathlib.Path | None = None
    """The same fields: rows that no model saw, for membership inference."""
    retain_model: str | None = None
    """Folder or hub name of the model that never saw the forget rows."""
    target_model: str | None = None
    """Folder or hub name of the model before unlearning."""
    attacks: tuple[str, ...] = ("all",)
    """Names as in docs/attacks.md, or all."""
    output_dir: pathlib.Path = pathlib.Path("runs/attack")
    """Everything is written here."""
    prompt_format: str = "auto"
    """chat, llama2, phi, plain, …; auto looks at the tokenizer."""
    max_length: Annotated[int, Bound(2)] = 512
    """Tokens of question and answer; longer rows are refused."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters are kept in float32."""
    attack: AttackConfig = ATTACK
    evaluation: EvalConfig = EVALUATION


def of_run(options: Options, run: Run) -> Options:
    """With the rows and the models of a request as what is attacked.

    Raises:
      ValueError: a run of other rows, or of several requests.
    """
    if not isinstance(run, Request) or isinstance(run.forget_file, tuple):
        raise ValueError(
            f"it is a run of {run.command}; attacks read that of one request."
        )
    same = set(vars(options)) & set(vars(run)) - {"output_dir", "attacks"}
    given = {name: getattr(run, name) for name in same}
    given |= {"attacks": run.attacks or options.attacks}
    return dataclasses.replace(options, **given, target_model=run.model)


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
