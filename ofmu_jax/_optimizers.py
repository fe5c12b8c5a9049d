"""Optimizers as they are given: of optax, or the rate of plain SGD."""

from typing import Any

import jax
import numpy as np
import optax

# A number or a schedule is the rate of plain SGD, the paper's optimizer of both loops.
Optimizer = (
    optax.GradientTransformation | optax.MultiSteps | optax.ScalarOrSchedule | np.number
)


def optimizer_of(name: str, given: Any) -> optax.GradientTransformationExtraArgs:
    """An optimizer with support for extra arguments; SGD of a rate.

    Raises:
      TypeError: it is neither, under the ``name`` of the argument.
    """
    if hasattr(given, "init") and hasattr(given, "update"):
        return optax.with_extra_args_support(given)
    numbers = (int, float, np.number, np.ndarray, jax.Array)
    if callable(given) or (isinstance(given, numbers) and np.ndim(given) == 0):
        rate: Any = given
        return optax.with_extra_args_support(optax.sgd(rate))
    raise TypeError(
        f"{name} must be an optax optimizer, or the rate of optax.sgd, got {given!r}."
    )
