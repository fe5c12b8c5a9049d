"""An unlearning run from its configuration: budget, rows, checks, stopping rule."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.config.language import LanguageRun
from experiments.domains.language import method as build
from experiments.domains.language import rows as inputs
from experiments.domains.language import target as targets
from experiments.domains.language.task import LanguageTask, Params
from experiments.stages.stage import fingerprint
from ofmu_jax.data.language import batches
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import UnlearningData
from ofmu_jax.methods import Method
from ofmu_jax.training import loop


@dataclasses.dataclass(frozen=True)
class Problem:
    """What all methods are given alike, for one seed."""

    run: LanguageRun
    task: LanguageTask
    data: UnlearningData
    forget: Sequence[Encoded]
    retain: Sequence[Encoded]
    target: Params  # of the model before unlearning
    reference: Params | None  # of the retrained model
    seed: int

    def forget_target(self) -> float | None:
        """Nats per token at which the forget rows count as forgotten."""
        return targets.forget_target(
            self.run.budget.forget_target,
            self.data,
            self.task,
            self.target,
            self.reference,
        )

    def checks(self) -> targets.Checks:
        """What the stopping rule looks at."""
        rows = self.run.budget.check_rows
        return targets.Checks(self.task, self.forget, self.retain, rows)


def identity(problem: Problem, name: str, forget_target: float | None) -> str:
    """Fingerprint of a method's run, but for the model it starts from."""
    run = problem.run
    refusals = (
        run.specs[name].carries(run.method(name)).alternative
        and inputs.refusals_of(run)[0]
    )
    part = build.part_of(run)
    return fingerprint(
        name,
        run.method(name),
        run.budget,
        forget_target,
        problem.seed,
        refusals,
        *(() if part is None else (type(part).__name__, part)),
    )


def num_updates(name: str, run: LanguageRun, task: LanguageTask) -> tuple[Method, int]:
    """The method, and how many updates the common budget of gradients allows it.

    Raises:
      ValueError: if it allows none, or the configuration does not work.
    """
    budget = run.budget.gradient_evaluations
    method = build.unlearning(
        name,
        run.method(name),
        budget,
        task.loss_apply_fn,
        task.hidden_fn_of,
        run.grad_accum,
        build.part_of(run),
    )
    updates = int(budget // method.gradient_evaluations)
    if updates < 1:
        raise ValueError(
            f"one update of {name} takes {method.gradient_evaluations:g} gradient "
            f"evaluations, more than --budget.gradient-evaluations {budget}; raise it."
        )
    return method, updates


def make(
    problem: Problem, name: str, forget_target: float | None
) -> tuple[Method, dict[str, Any]]:
    """The method, and the arguments of `ofmu_jax.training.loop.run` beside it.

    The number of updates is what the common budget of gradient evaluations allows.
    """
    run, task, budget = problem.run, problem.task, problem.run.budget
    method, updates = num_updates(name, run, task)
    forget, retain, length = inputs.training_rows(
        name,
        run,
        task,
        problem.data.forget,
        problem.forget,
        problem.retain,
        problem.target,
        problem.seed,
        forget_target,
    )
    stream = batches.paired_batches(
        forget,
        retain,
        budget.batch_size,
        problem.seed,
        num_stack=method.batches_per_update,
        length=length,
        shard=task.shard,
    )
    return method, {
        "stream": stream,
        "part": build.part_of(run),
        "seed": problem.seed,
        "num_updates": updates,
        "check": problem.checks(),
        "check_every": max(1, round(updates / budget.checks)),
        "stopping": loop.StoppingRule(forget_target, budget.patience),
    }
