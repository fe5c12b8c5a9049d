"""Rows as arrays: what a method's forget and retain batches are drawn from."""

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from ofmu_jax.data.language import batches, prompts
from ofmu_jax.data.language.padding import Batch
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA
from ofmu_jax.data.language.refusals import refused
from ofmu_jax.methods.base import Carries
from ofmu_jax.unlearning.language.alternatives import made_up
from ofmu_jax.unlearning.language.task import Params, Task


def request_batches(
    task: Task,
    rows: Sequence[QA],
    forget: Sequence[Encoded],
    retain: Sequence[Encoded],
    carries: Carries,
    target: Params,
    batch_size: int,
    seed: int,
    *,
    num_stack: int,
    refusals: Sequence[str] = (),
    goal: float | None = None,
) -> grain.DatasetIterator:
    """Endless batches of a request, as the updates of a method take them.

    Args:
      rows: the forget rows in words; ``forget`` and ``retain`` are encoded.
      carries: what the method's forget batches hold; see `training_rows`.
      num_stack: S, minibatches of an update.
      refusals: that are taught where ``carries`` asks for other answers and does not
        say that the model makes them up.

    Returns:
      See `batches.paired_batches`.
    """
    others: Sequence[QA] = ()
    if carries.alternatives is not None:
        others = made_up(task, target, rows, carries.alternatives, seed)
    elif carries.alternative:
        others = refused(rows, refusals, seed)
    forget_rows, retain_rows, length = training_rows(
        task, forget, retain, carries, target, others=others, goal=goal
    )
    return batches.paired_batches(
        forget_rows,
        retain_rows,
        batch_size,
        seed,
        num_stack=num_stack,
        length=length,
        shard=task.shard,
    )


def training_rows(
    task: Task,
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
        assert goal is not None  # callers refuse it
        ceiling = carries.target_nll * goal
        batch["target_nll"] = np.full(len(forget), ceiling, np.float32)
    if carries.alternative:
        batch["alternative"] = arrays["alternative"]
        batch["alternative_reference_nll"] = _summed_nll(
            task, target, sets["alternative"]
        )
    return batch, arrays["retain"], length


def _summed_nll(task: Task, params: Params, examples: Sequence[Encoded]) -> np.ndarray:
    scores = task.score_encoded(params, examples)
    return np.asarray([-s.log_prob.sum(dtype=np.float64) for s in scores], np.float32)
