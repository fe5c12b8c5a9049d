"""What a run aims at: the forget target, and the look at how far it has come."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ofmu_jax.bounds import check_word_or_number
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import UnlearningData
from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.unlearning.language.task import Params, Task

UNRELATED = "answers to other questions"
CHOICES = ("reference", "chance", "auto", "none")


class Look:
    """Mean NLL and probability of the training rows, for the stopping rule.

    All forget rows and at most ``rows`` retain rows, and as many adjacent ones where
    there are some; none of them is a question of the evaluation in its held-out
    wording.
    """

    def __init__(
        self,
        task: Task,
        forget: Sequence[Encoded],
        retain: Sequence[Encoded],
        rows: int,
        adjacent: Sequence[Encoded] = (),
    ):
        self.task = task
        some = lambda of: [of[i] for i in evenly_spaced(len(of), rows)]
        self.sets = {"forget": list(forget), "retain": some(retain)}
        if adjacent:
            self.sets["adjacent"] = some(adjacent)

    def __call__(self, params: Params) -> Mapping[str, float]:
        values: dict[str, float] = {}
        for name, examples in self.sets.items():
            try:
                scores = self.task.score_encoded(params, examples)
            except EvaluationError:  # diverged: the loop ends at a value not finite
                values |= {f"{name}_nll": math.nan, f"{name}_prob": math.nan}
                continue
            losses = np.array([s.avg_loss for s in scores])
            values[f"{name}_nll"] = float(losses.mean())
            values[f"{name}_prob"] = float(np.exp(-losses).mean())
        return values


def forget_target(
    choice: str,
    data: UnlearningData,
    task: Task,
    target: Params,
    reference: Params | None,
) -> float | None:
    """The mean NLL (nats per token) at which the forget rows count as forgotten.

    Args:
      choice: ``"reference"``, ``"chance"``, ``"auto"``, ``"none"`` or a number.
      data: whose forget rows the reference is scored on; chance is the target's NLL
        on the pairs of `chance_pairs`.
      task: scores.
      target: parameters of the model before unlearning.
      reference: parameters of the retrained model, if there is one.

    Raises:
      ValueError: if the choice is unknown or needs what is not there.
    """
    check_word_or_number("--budget.forget-target", choice, CHOICES, "nats per token")
    choice = resolved(choice, reference is not None)
    if choice == "none":
        return None
    if choice == "reference":
        if reference is None:
            raise ValueError(
                "--budget.forget-target reference needs a retrained model: give "
                "--retain-model or --base-model, or use --budget.forget-target chance."
            )
        return _mean_nll(task, reference, [(r.question, r.answer) for r in data.forget])
    if choice == "chance":
        return _mean_nll(task, target, chance_pairs(data)[0])
    return float(choice)


def resolved(choice: str, has_reference: bool) -> str:
    """The choice that ``auto`` stands for; any other stays."""
    if choice != "auto":
        return choice
    return "reference" if has_reference else "chance"


def chance_pairs(data: UnlearningData) -> tuple[list[tuple[str, str]], str]:
    """Questions with answers that the model was not taught, and what those are.

    Hold-out rows; without any the perturbed answers of the forget questions; without
    those, each forget question with the answer to another: a retain row's. That is a
    high level, as such an answer does not even fit the question.
    """
    held = [(row.question, row.answer) for row in data.holdout]
    if held:
        return held, "hold-out rows"
    rows = data.forget_eval
    wrong = [(row.question, text) for row in rows for text in row.perturbed_answers]
    if wrong:
        return wrong, "perturbed answers"
    count = len(data.forget)
    others = (data.retain[i * len(data.retain) // count] for i in range(count))
    pairs = zip(data.forget, others, strict=True)
    return [(row.question, other.answer) for row, other in pairs], UNRELATED


def _mean_nll(task: Task, params: Params, pairs) -> float:
    return float(np.mean([s.avg_loss for s in task.score(params, pairs)]))
