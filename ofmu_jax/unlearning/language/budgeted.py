"""A method on a language model, and how often it updates within a budget."""

from typing import Any

from ofmu_jax.methods.base import Method
from ofmu_jax.methods.language.of_model import of_model
from ofmu_jax.methods.language.registry import METHODS
from ofmu_jax.methods.language.setting import Moments
from ofmu_jax.methods.parts.subset import Part
from ofmu_jax.training.budget import updates_within
from ofmu_jax.unlearning.language.task import Task


def budgeted(
    task: Task,
    name: str,
    config: Any,
    budget: int,
    *,
    option: str,
    micro_batches: int = 1,
    part: Part | None = None,
    moments_dtype: Moments = "float32",
) -> tuple[Method, int]:
    """The method, and how many updates the budget of gradients allows it.

    Args:
      option: what sets the budget, for the message.
      micro_batches, part, moments_dtype: see `of_model`.

    Raises:
      ValueError: if it allows none, or the configuration does not work.
    """
    if METHODS[name].second_derivatives(config):
        task = task.twice_differentiable
    method = of_model(
        name,
        config,
        budget,
        task.loss_apply_fn,
        task.hidden_fn_of,
        micro_batches,
        part,
        moments_dtype,
    )
    cost = method.gradient_evaluations
    return method, updates_within(budget, cost, name=name, option=option)
