"""A method carried out: updates under the stopping rule, on a part if there is one."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from rich.progress import Progress

from ofmu_jax import training
from ofmu_jax.methods.base import Method, Params
from ofmu_jax.methods.parts.subset import Part
from ofmu_jax.training import Check, OnUpdate, Run, StoppingRule
from ofmu_jax.unlearning.options import Asked


def carried_out(
    asked: Asked,
    method: Method,
    params: Params,
    batches: Iterable[Any],
    num_updates: int,
    check: Check,
    goal: float | None,
    part: Part | None = None,
) -> Run:
    """`training.run` as the commands call it; the result has all parameters.

    Args:
      check: of all parameters; returns what the stopping rule needs.
      goal: mean NLL at which the forget rows count as forgotten; None: the whole
        budget is used up.
      part: of the parameters, that the method is one of.
    """
    fixed, whole = None, lambda found: found
    if part is not None:
        params, fixed = part.split(params, jax.random.key(asked.seed))
        whole = lambda found: part.merge(found, fixed)
    with _bar(asked, num_updates) as on_update:
        run = training.run(
            method,
            params,
            batches,
            num_updates=num_updates,
            check=lambda found: check(whole(found)),
            check_every=max(1, round(num_updates / asked.checks)),
            stopping=StoppingRule(goal, asked.patience),
            on_update=on_update,
            fixed=fixed,
        )
    return dataclasses.replace(run, params=whole(run.params))


@contextlib.contextmanager
def _bar(asked: Asked, num_updates: int) -> Iterator[OnUpdate | None]:
    """What shows each update, if that is asked for."""
    if not asked.progress:
        yield None
        return
    with Progress() as progress:
        bar = progress.add_task(asked.method, total=num_updates)
        yield lambda done, metrics: progress.update(bar, completed=done)
