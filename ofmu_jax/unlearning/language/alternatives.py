"""Answers that the model before unlearning makes up (AltPO, arXiv 2409.13474)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ofmu_jax.data.language.conversations import shown
from ofmu_jax.data.language.records import QA
from ofmu_jax.data.language.refusals import REFUSALS
from ofmu_jax.evals.language.metrics import rouge_l_recall
from ofmu_jax.methods.base import Alternatives
from ofmu_jax.unlearning.language.task import Params, Task

# The published prompt asks for the same in other words.
PROMPT = """Question: {question}
Answer: {answer}
Make up another answer to this question. It must be as plausible and about as long, \
but every fact that the answer above states must be a different one. Reply with the \
new answer alone."""


def made_up(
    task: Task,
    target: Params,
    rows: Sequence[QA],
    made: Alternatives,
    seed: int,
) -> list[QA]:
    """The same questions, each with another answer of the target's own.

    ``made.draws`` answers are drawn for each, and the one with the lowest ROUGE-L
    recall of the right answer is taken: what a model has learned by heart it mostly
    says again. Where it says nothing at all, the row has the first built-in refusal.
    The draws depend on the seed, so that a run that goes on has the same.
    """
    asked = [row.question for row in rows]
    if made.how == "prompted":
        asked = [
            PROMPT.format(question=shown(x.question), answer=x.answer) for x in rows
        ]
    count = len(rows)
    texts = task.generate(target, asked * made.draws, made.temperature, seed)
    right = [row.answer for row in rows]
    likeness = rouge_l_recall(texts, right * made.draws)
    silent = np.asarray([not text for text in texts])
    scores = np.where(silent, np.inf, likeness).reshape(made.draws, count)
    chosen = np.argmin(scores, 0)

    def other(i: int) -> str:
        return texts[chosen[i] * count + i] or REFUSALS[0]

    return [dataclasses.replace(row, answer=other(i)) for i, row in enumerate(rows)]


def described(made: Alternatives) -> str:
    """What is taught, in words."""
    how = "asked to make one up" if made.how == "prompted" else "asked the question"
    return (
        f"answers that the model before unlearning gives when it is {how}: of "
        f"{made.draws} at temperature {made.temperature:g} the one least like the "
        "right one"
    )
