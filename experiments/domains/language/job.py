"""Trainings of a language run as jobs: rows, budget, checks, fingerprint."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from experiments.config.language import LanguageRun, Request, TrainConfig
from experiments.domains.language.method import fine_tuning, part_of
from experiments.domains.language.rows import refusals_of, rows_fingerprint
from experiments.domains.language.task import LanguageTask, Params
from experiments.stages.files import sha256
from experiments.stages.fit import STATE, Job
from ofmu_jax.data import streams
from ofmu_jax.data.language import batches
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.methods import Method, Unmerged
from ofmu_jax.methods.language.setting import Moments
from ofmu_jax.training import StoppingRule
from ofmu_jax.training.checkpoint import SUMS
from ofmu_jax.unlearning.language.budgeted import budgeted
from ofmu_jax.unlearning.language.goal import Look
from ofmu_jax.unlearning.language.rows import request_batches


def training(
    task: LanguageTask,
    rows: Sequence[QA],
    config: TrainConfig,
    seed: int,
    grad_accum: int,
    start: Callable[[], Params],
    moments_dtype: Moments = "float32",
) -> Job:
    """Fine-tuning on ``rows``: of a base, a target or a reference."""
    size, epochs = config.batch_size, config.epochs
    updates = batches.num_batches(len(rows), size, epochs)

    def stream():
        found = batches.single_batches(
            task.encode(rows),
            size,
            seed,
            num_stack=1,
            trim_to=32,
            shard=task.shard,
            **task.padding,
        )
        return streams.named(found, "retain")

    return Job(
        (rows_fingerprint(rows), config),
        fine_tuning(task.loss_apply_fn, config, updates, grad_accum, moments_dtype),
        start,
        stream,
        updates,
        remedy="lower --train.learning-rate",
    )


def num_updates(name: str, run: LanguageRun, task: LanguageTask) -> tuple[Method, int]:
    """The method, and how many updates the common budget of gradients allows it.

    Raises:
      ValueError: if it allows none, or the configuration does not work.
    """
    return budgeted(
        task,
        name,
        run.config_of(name),
        run.budget.gradient_evaluations,
        option="--budget.gradient-evaluations",
        micro_batches=run.grad_accum,
        part=part_of(run),
        moments_dtype=run.moments_dtype,
    )


def unlearning(
    name: str,
    run: LanguageRun,
    task: LanguageTask,
    data: UnlearningData,
    forget: Sequence[Encoded],
    retain: Sequence[Encoded],
    target: Params,
    seed: int,
    goal: float | None,
    look: Look,
) -> Job:
    """A method on the rows of a request; as many updates as the budget allows.

    Args:
      data: the rows in words; ``forget`` and ``retain`` are the same, encoded.
      target: parameters of the model before unlearning.
      goal: nats per token at which the forget rows count as forgotten.
      look: what checks find out.

    Raises:
      ValueError: if the budget allows no update, or the method needs a goal.
    """
    method, updates = num_updates(name, run, task)
    carries = run.specs[name].carries(run.config_of(name))
    if carries.target_nll is not None and goal is None:
        own = "saul.loss.unit nats" if name == "saul" else f"{name}.forget-loss npo"
        raise ValueError(
            f"{name} ascends to a forget target and there is none: set "
            f"--budget.forget-target to reference, chance or a number, or --{own}."
        )
    refuses = carries.alternative and carries.alternatives is None
    texts = refusals_of(run)[0] if refuses else ()
    part = part_of(run)

    def stream():
        return request_batches(
            task,
            data.forget,
            forget,
            retain,
            carries,
            target,
            run.budget.batch_size,
            seed,
            num_stack=method.batches_per_update,
            refusals=texts,
            goal=goal,
        )

    leaves, carried, sums = carried_state(run)
    return Job(
        (run.config_of(name), run.budget, texts, type(part).__name__, part, *sums),
        method,
        lambda: target,
        stream,
        updates,
        check=look,
        check_every=max(1, round(updates / run.budget.checks)),
        stopping=StoppingRule(goal, run.budget.patience),
        part=part,
        network=part if isinstance(part, Unmerged) else None,
        alone=isinstance(part, Unmerged),
        carries_state=leaves,
        carried=carried,
    )


def carried_state(run: LanguageRun) -> tuple[bool, pathlib.Path | None, list[Any]]:
    """Whether a run leaves the state of its methods, what it starts with of a run
    before, and what that adds to a fingerprint.

    The state lies beside the export that is given as --model: in the training that
    made it.
    """
    if not isinstance(run, Request) or not run.carry_state or run.model is None:
        return False, None, []
    place = pathlib.Path(run.model).parent / "training" / STATE
    if not (place / SUMS).is_file():  # the first of its lineage
        return True, None, [STATE]
    return True, place, [STATE, sha256(place / SUMS)]
