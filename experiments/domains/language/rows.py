"""What is taught in place of the answers, and the identity of rows."""

import dataclasses
import pathlib
from collections.abc import Sequence

from experiments.config.language import LanguageRun, Tofu
from experiments.stages.files import fingerprint
from ofmu_jax.data.language import refusals
from ofmu_jax.data.language.records import QA
from ofmu_jax.unlearning.language.alternatives import described


def refusals_of(run: LanguageRun) -> tuple[tuple[str, ...], pathlib.Path | None]:
    """The run's refusals and their file: its own, TOFU's, or none, for the built-in."""
    paths = [run.refusals_file] if run.refusals_file is not None else []
    if not paths and isinstance(run, Tofu) and run.data_dir is not None:
        names = ("idontknow.txt", "idontknow.jsonl")  # both are lines of plain text
        paths = [path for name in names if (path := run.data_dir / name).is_file()]
    if not paths:
        return refusals.REFUSALS, None
    return refusals.read_refusals(paths[0]), paths[0]


def taught(run: LanguageRun, name: str) -> str:
    """What a method teaches in place of the answers."""
    made = run.specs[name].carries(run.config_of(name)).alternatives
    if made is not None:
        return f"{name} teaches {described(made)}."
    texts, path = refusals_of(run)
    if path is not None:
        return f"{name} teaches the {len(texts)} refusals of {path}, one for each row."
    return (
        f"{name} teaches the {len(texts)} refusals that are built in, one for each "
        "row (TOFU's own has 100: idontknow.txt or idontknow.jsonl in --data-dir, or "
        "--refusals-file)."
    )


def rows_fingerprint(rows: Sequence[QA]) -> str:
    """Hash of rows with all their fields."""
    return fingerprint([dataclasses.asdict(row) for row in rows])
