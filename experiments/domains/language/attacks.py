"""What the models of a language run are attacked with."""

import pathlib
from collections.abc import Sequence

from experiments.config.attacks import AttackConfig
from experiments.config.language import LanguageRun
from experiments.domains.attacks import Attacks
from experiments.domains.language.data import limited
from experiments.domains.language.task import LanguageTask
from ofmu_jax.attacks.base import Rows
from ofmu_jax.attacks.budget import check as check_budget
from ofmu_jax.attacks.plain_text import PASSAGES
from ofmu_jax.attacks.registry import chosen
from ofmu_jax.data.language.records import QA, DataError, UnlearningData, key_of
from ofmu_jax.data.language.text_files import read_text
from ofmu_jax.evals.language.spans import Entities, read_entities


def check(run: LanguageRun) -> None:
    """Raises ValueError for attacks that are unknown or do not fit the run."""
    if not run.attacks:
        return
    chosen(run.attacks)
    check_budget(run.attack)
    given = {
        "--mesh": run.mesh is not None,
        "--lora.base nf4": run.lora.base == "nf4",
        "--lora.export-adapter": run.lora.export_adapter,
    }
    for option in (name for name, is_given in given.items() if is_given):
        raise ValueError(
            f"--attacks changes whole models on one device, which {option} does not "
            "have: leave it out, and attack the exported folder with "
            "python -m experiments.attack."
        )


def check_documents(names: tuple[str, ...]) -> None:
    """Raises ValueError for an attack that is named and asks questions, where the
    forget rows are documents; of all, such attacks are left out by themselves."""
    found = chosen(name for name in names if name != "all")
    if asking := [name for name, attack in found.items() if attack.asks]:
        raise ValueError(
            f"--attacks {' '.join(asking)}: questions are asked there, and the forget "
            "rows are documents; leave it out."
        )


def attacks_of(
    names: tuple[str, ...],
    config: AttackConfig,
    task: LanguageTask,
    data: UnlearningData,
) -> Attacks | None:
    """The attacks of those names on rows of a request; None if there are none.

    Raises:
      DataError: a file of texts or entities that cannot be read.
    """
    if not names:
        return None
    rows = limited(data, task.evaluation.max_rows)
    file = config.entities_file
    scored = rows.forget_eval or data.forget
    given = Rows(
        scored,
        data.forget,
        data.retain,
        rows.holdout,
        rows.retain_eval,
        {} if file is None else _entities(file, scored),
        _passages(config.text_file),
    )
    return Attacks(chosen(names), task, given, config)


def _entities(file: pathlib.Path, scored: Sequence[QA]) -> Entities:
    """Those of a file, of which some are of rows that are scored."""
    found = read_entities(file)
    if not any(key_of(row) in found for row in scored):
        raise DataError(
            f"{file}: none of its {len(found)} entities is in a scored answer; "
            "give those of the forget rows, or leave it out"
        )
    return found


def _passages(file: pathlib.Path | None) -> tuple[str, ...]:
    if file is None:
        return PASSAGES
    lines = (line.strip() for line in read_text(file).splitlines())
    if found := tuple(filter(None, lines)):
        return found
    raise DataError(f"{file}: no text in it; give one passage a line")
