"""What the study takes, from products of matrices: said before anything is trained."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

from experiments.domains.language.data import evaluated_sets, limited
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.refuse import answers_of
from ofmu_jax.data.language import prompts
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals.language.tofu import SETS

# Assumed, not measured: see docs/study.md.
RATE = 95e12  # operations a second: 15 % of what products of large matrices reach
COMPILE_UPDATE = 6.0  # seconds to compile a method's update
COMPILE_SCORES = 60.0  # to compile what scores and answers
TOKEN = 4e-3  # of a new token of all answers at once
EVALUATION = 1.5  # of an evaluation outside of the device
STORE = 4.5  # to write and read back a model


class Row(NamedTuple):
    """One kind of work."""

    work: str
    times: int
    operations: float  # each time
    aside: float  # seconds each time, beside the operations

    def seconds(self, rate: float) -> float:
        """Of all times."""
        return self.times * (self.operations / rate + self.aside)


def rows(domain: LanguageDomain) -> list[Row]:
    """All work of a study, with 2 N operations a token read, 6 N a token learned."""
    run, task, data = domain.run, domain.task, domain.data
    size = sum(x.size for x in jax.tree.leaves(task.outline()))
    seeds, methods = len(run.seeds), len(run.methods)
    of_batch = run.budget.batch_size * max(
        prompts.padded_length(found) for found in (domain.forget, domain.retain)
    )
    checked = [*domain.forget, *domain.retain[: run.budget.check_rows]]
    looks = (run.budget.checks + 1) * tokens_of(checked)
    asked = limited(data, run.evaluation.max_rows)
    scored = tokens_of(task.encode(_texts(asked)))
    questions = sum(len(getattr(asked, field)) for field in SETS.values())
    rounds = -(-questions // run.evaluation.batch_size)
    answers = rounds * run.evaluation.max_new_tokens * TOKEN
    tuned = 6 * size * run.train.epochs
    learned = lambda rows: tuned * _in_batches(task.encode(rows), run.train.batch_size)
    per_gradient = 6 * size * of_batch
    runs = seeds * methods
    return [
        Row("fine-tune on all rows", 1, learned(data.full), COMPILE_UPDATE + STORE),
        Row("fine-tune on retain rows", 1, learned(data.retain), STORE),
        Row("compile scores and answers", 1, 0.0, COMPILE_SCORES),
        Row("compile a method's update", methods, 0.0, COMPILE_UPDATE),
        Row("unlearn", runs, run.budget.gradient_evaluations * per_gradient, STORE),
        Row("look for the stopping rule", runs, 2 * size * looks, 0.0),
        Row("evaluate", runs + 2, 2 * size * scored, answers + EVALUATION),
    ]


def to_json(plan: Sequence[Row], rate: float) -> dict[str, Any]:
    """The plan as JSON values."""
    work = [{**x._asdict(), "seconds": x.seconds(rate)} for x in plan]
    return {"operations_per_second": rate, "work": work}


def table(plan: Sequence[Row], rate: float) -> Table:
    """The plan for people, with its sum."""
    total = sum(x.seconds(rate) for x in plan)
    found = Table("expected", title=f"at {rate / 1e12:g} TFLOP/s: {total:.0f} s")
    for column in ("times", "TFLOP each", "beside them, s", "all, s"):
        found.add_column(column, justify="right")
    for x in plan:
        cells = f"{x.operations / 1e12:.1f}", f"{x.aside:.1f}", f"{x.seconds(rate):.0f}"
        found.add_row(x.work, str(x.times), *cells)
    return found


def tokens_of(encoded: Sequence[Encoded]) -> int:
    """Of all rows, without padding."""
    return sum(len(x) for x in encoded)


def _in_batches(encoded: Sequence[Encoded], size: int) -> float:
    """Tokens of an epoch: each batch is as long as its longest row, by 32."""
    lengths = np.array([len(x) for x in encoded])
    drawn = np.random.default_rng(0).permutation(lengths)
    batches = [drawn[at : at + size] for at in range(0, len(drawn), size)]
    return float(sum(len(x) * -(-x.max() // 32) * 32 for x in batches))


def _texts(data: UnlearningData) -> list[QA]:
    """Rows whose answers an evaluation scores, paraphrased and perturbed ones too."""
    return [
        QA(row.question, text)
        for field in evaluated_sets(data)
        for row in getattr(data, field)
        for text in answers_of(field, row)
    ]
