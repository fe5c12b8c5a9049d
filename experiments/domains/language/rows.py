"""Rows as the stages take them: for training, for evaluation, for fingerprints."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.config.language import LanguageRun, Tofu
from experiments.domains.language import target as targets
from experiments.domains.language.task import LanguageTask, Params
from experiments.stages.stage import fingerprint
from ofmu_jax.data.language import prompts, refusals
from ofmu_jax.data.language.padding import Batch
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals.evaluation import EvalOptions, Evaluation
from ofmu_jax.evals.language.tofu import evaluate_language

EVALUATED = (
    "forget_eval",
    "retain_eval",
    "real_authors",
    "world_facts",
    "forget_heldout",
    "retain_heldout",
    "holdout",
)


def refusals_of(run: LanguageRun) -> tuple[tuple[str, ...], pathlib.Path | None]:
    """The run's refusals and their file: its own, TOFU's, or none, for the built-in."""
    paths = [run.refusals_file] if run.refusals_file is not None else []
    if not paths and isinstance(run, Tofu) and run.data_dir is not None:
        names = ("idontknow.txt", "idontknow.jsonl")  # both are lines of plain text
        paths = [path for name in names if (path := run.data_dir / name).is_file()]
    if not paths:
        return refusals.REFUSALS, None
    return refusals.read_refusals(paths[0]), paths[0]


def training_rows(
    name: str,
    run: LanguageRun,
    task: LanguageTask,
    rows: Sequence[QA],
    forget: Sequence[Encoded],
    retain: Sequence[Encoded],
    target: Params,
    seed: int,
    forget_target: float | None,
) -> tuple[Batch, Batch, int]:
    """All forget and all retain rows as arrays of one length L, and L.

    Args:
      name: the method, whose needs are met: ``reference_nll`` (summed NLL of each
        row under the model before unlearning), ``alternative`` (the same question
        with a refusal), ``alternative_reference_nll`` and ``target_nll`` (nats per
        token that target_cross_entropy ascends to).
      rows: the forget rows in words; ``forget`` are the same, encoded.
      target: parameters of the model before unlearning.
      seed: of the refusals.
      forget_target: nats per token at which the forget rows count as forgotten.

    Raises:
      ValueError: if the method ascends to a target and there is none.
    """
    sets = {"forget": list(forget), "retain": list(retain)}
    carries = run.specs[name].carries(run.method(name))
    if carries.alternative:
        sets["alternative"] = task.encode(
            refusals.refused(rows, refusals_of(run)[0], seed)
        )
    length = max(prompts.padded_length(examples) for examples in sets.values())
    arrays = {
        key: prompts.pad_right(examples, length, **task.padding)
        for key, examples in sets.items()
    }
    batch = arrays["forget"]
    if carries.reference_nll:
        batch["reference_nll"] = _summed_nll(task, target, sets["forget"])
    if carries.target_nll is not None:
        if forget_target is None:
            raise ValueError(
                f"{name} ascends to a multiple of the forget target and needs one: set "
                "--budget.forget-target to reference, chance or a number, or choose "
                "another forget loss."
            )
        ceiling = carries.target_nll * forget_target
        batch["target_nll"] = np.full(len(rows), ceiling, np.float32)
    if "alternative" in sets:
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


def limited(data: UnlearningData, most: int | None) -> UnlearningData:
    """At most ``most`` rows, evenly spaced, of each evaluation set."""
    if most is None:
        return data
    fewer: dict[str, Any] = {
        field: tuple(targets.spaced(getattr(data, field), most)) for field in EVALUATED
    }
    return dataclasses.replace(data, **fewer)


def evaluated(
    task: LanguageTask,
    params: Params,
    data: UnlearningData,
    against: Evaluation | None = None,
) -> Evaluation:
    """The evaluation of a model by the conventions of its task.

    Args:
      against: the evaluation of the retrained model, to compare with.
    """
    config = task.evaluation
    rows = limited(data, config.max_rows)
    evaluation = evaluate_language(
        rows,
        score=functools.partial(task.score, params),
        generate=functools.partial(task.generate, params),
        reference=against,
        options=EvalOptions(num_resamples=config.bootstrap),
    )
    evaluation.notes += _cut(task, rows)
    return evaluation


def _cut(task: LanguageTask, data: UnlearningData) -> list[str]:
    """A note where right answers are cut short, so that ROUGE stays below 1."""
    most, found = task.evaluation.max_new_tokens, []
    for field in ("forget_eval", "retain_eval", "real_authors", "world_facts"):
        answers = [row.answer for row in getattr(data, field)]
        ids = answers and task.tokenizer(answers, add_special_tokens=False)["input_ids"]
        if longer := sum(len(tokens) > most for tokens in ids):
            found.append(f"{longer} of {len(ids)} {field}")
    if not found:
        return []
    return [
        f"ROUGE: answers end after {most} tokens (--evaluation.max-new-tokens); the "
        f"true ones are longer in {', '.join(found)}, and theirs cannot reach 1."
    ]


def rows_fingerprint(rows: Sequence[QA]) -> str:
    """Hash of rows with all their fields."""
    return fingerprint([dataclasses.asdict(row) for row in rows])
