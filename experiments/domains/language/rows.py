"""Rows as arrays: what a method's forget and retain batches are drawn from."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.config.language import LanguageRun, Tofu
from experiments.domains.language.alternatives import described
from experiments.domains.language.task import LanguageTask, Params
from experiments.stages.files import fingerprint
from ofmu_jax.data.language import prompts, refusals
from ofmu_jax.data.language.padding import Batch
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA
from ofmu_jax.methods.base import Carries


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


def training_rows(
    task: LanguageTask,
    forget: Sequence[Encoded],
    retain: Sequence[Encoded],
    carries: Carries,
    target: Params,
    *,
    others: Sequence[QA] = (),
    goal: float | None = None,
) -> tuple[Batch, Batch, int]:
    """All forget and all retain rows as arrays of one length L, and L.

    Args:
      carries: what the forget rows get: ``reference_nll`` (summed NLL of each row
        under the model before unlearning), ``alternative`` (the same question with a
        other answer, and ``alternative_reference_nll``), ``target_nll`` (nats per token
        that a bounded loss ascends to).
      target: parameters of the model before unlearning.
      others: the forget rows with other answers, where ``carries.alternative``.
      goal: nats per token at which the forget rows count as forgotten.
    """
    sets: dict[str, Any] = {"forget": list(forget), "retain": list(retain)}
    if carries.alternative:
        sets["alternative"] = task.encode(others)
    length = max(prompts.padded_length(examples) for examples in sets.values())
    arrays = {
        key: prompts.pad_right(examples, length, **task.padding)
        for key, examples in sets.items()
    }
    batch = arrays["forget"]
    if carries.reference_nll:
        batch["reference_nll"] = _summed_nll(task, target, sets["forget"])
    if carries.target_nll is not None:
        assert goal is not None  # `job.unlearning` refuses it
        ceiling = carries.target_nll * goal
        batch["target_nll"] = np.full(len(forget), ceiling, np.float32)
    if carries.alternative:
        batch["alternative"] = arrays["alternative"]
        batch["alternative_reference_nll"] = _summed_nll(
            task, target, sets["alternative"]
        )
    return batch, arrays["retain"], length


def _summed_nll(
    task: LanguageTask, params: Params, examples: Sequence[Encoded]
) -> np.ndarray:
    scores = task.score_encoded(params, examples)
    return np.asarray([-s.log_prob.sum(dtype=np.float64) for s in scores], np.float32)
