"""Methods that break: their row of the report, so that the others go on."""

import dataclasses

import jax

from experiments.domains.base import Model
from experiments.shell import console
from ofmu_jax.evals import EvaluationError
from ofmu_jax.evals.evaluation import Evaluation

ALL = "all metrics"  # the name of what is missing where nothing was measured


def causes() -> tuple[type[Exception], ...]:
    """Errors of one method that say nothing about the others.

    It diverged, its model has no scores, or the device has not enough memory for it.
    The last may happen to one process of a job, which then cannot go on alone.
    """
    found = (FloatingPointError, EvaluationError)
    if jax.process_count() > 1:
        return found
    return (*found, jax.errors.JaxRuntimeError, MemoryError)


def reason_of(error: Exception) -> str:
    """An error of `causes` in one line; those of the device have many."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].removesuffix(".")


def without_result(model: Model, error: Exception) -> Model:
    """The model as one that broke off, with the reason in place of its metrics."""
    reason = reason_of(error)
    stopped = reason
    if "stopped" in model.record:
        stopped = f"{model.record['stopped']}; it has no scores: {reason}"
    console.warning(f"{model.title} broke off and has no result: {stopped}")
    return dataclasses.replace(
        model,
        record={**model.record, "finite": False, "stopped": stopped},
        evaluation=Evaluation(missing={ALL: reason}),
    )
