"""The options of ``python -m experiments.attack``, some of them out of a request."""

import dataclasses
import pathlib
from typing import Annotated, ClassVar, Literal

import tyro

from experiments.config.attacks import AttackConfig
from experiments.config.common import Run
from experiments.config.language import EvalConfig, Request
from ofmu_jax.bounds import Bound

ATTACK, EVALUATION = AttackConfig(), EvalConfig(max_new_tokens=200)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options have the names and meanings of experiments.run request."""

    attacks_in: ClassVar = "ofmu_jax.attacks.registry"
    everyday: ClassVar = (
        *("folder", "forget_file", "retain_file", "holdout_file", "retain_model"),
        *("target_model", "attacks", "output_dir", "dtype"),
    )

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder or hub name of the model to attack."""
    forget_file: pathlib.Path
    """Rows with question and answer: what it is to have forgotten."""
    retain_file: pathlib.Path | None = None
    """The same fields: what it has kept, which some attacks train on."""
    holdout_file: pathlib.Path | None = None
    """The same fields: rows that no model saw, for membership inference."""
    columns: tuple[str, ...] = ()
    """FIELD=COLUMN, where names of columns do not say what they are."""
    retain_model: str | None = None
    """Folder or hub name of the model that never saw the forget rows."""
    target_model: str | None = None
    """Folder or hub name of the model before unlearning."""
    attacks: tuple[str, ...] = ("all",)
    """Names, or all; --help-attacks lists them with what they do."""
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
