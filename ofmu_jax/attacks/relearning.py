"""Relearning: further training that brings back what was hidden.

Where all forget rows are taught again, knowing them afterwards proves little. So there
are forms that teach other things: retained rows, plain text, and a part of the
forgotten facts with the others scored. What those bring back was still in the weights.
"""

from collections.abc import Sequence

import numpy as np

from ofmu_jax.attacks.base import (
    PROBABILITY,
    Attack,
    Attacked,
    Found,
    Progress,
    Rows,
)
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.fine_tuning import Recipe
from ofmu_jax.attacks.lessons import Lesson, facts, flat, learn
from ofmu_jax.attacks.plain_text import passages
from ofmu_jax.data.language import batches
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.data.order import evenly_spaced


def relearn_all(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """All forget rows again, in the field's form: epochs, linear decay."""
    size, taught = budget.relearn_batch, model.subject.encode(rows.forget)
    updates = batches.num_batches(len(taught), size, budget.relearn_epochs)
    recipe = Recipe(budget.relearn_rate, size, until=float(updates))
    lesson = Lesson(taught, recipe, (updates,), np.arange(len(rows.scored)))
    learned = learn(model, rows, [lesson], budget.seed, progress)
    return Found((updates,), learned.after[0], learned.before, said=learned.said)


def relearn_retain(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Retained rows alone, evenly spaced: as many as one training sees at most."""
    most = budget.curve_batch * budget.curve_steps[-1]
    chosen = [rows.retain[i] for i in evenly_spaced(len(rows.retain), most)]
    taught, every = model.subject.encode(chosen), np.arange(len(rows.scored))
    return _curve(model, rows, budget, progress, taught, every)


def relearn_text(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Plain text that has nothing to do with any row."""
    taught, every = passages(model.subject, rows.text), np.arange(len(rows.scored))
    return _curve(model, rows, budget, progress, taught, every)


def relearn_part(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Some of the forgotten facts, evenly spaced; the others are scored."""
    count, groups = len(rows.scored), facts(rows)
    # One is scored at least, and one is taught.
    taught_facts = min(max(1, round(budget.part * count)), count - 1)
    some = evenly_spaced(count, taught_facts)
    taught = model.subject.encode(flat(groups[i] for i in some))
    others = np.setdiff1d(np.arange(count), some)
    return _curve(model, rows, budget, progress, taught, others)


def _curve(
    model: Attacked,
    rows: Rows,
    budget: Budget,
    progress: Progress,
    taught: Sequence[Encoded],
    scored: np.ndarray,
) -> Found:
    """After each of the steps of one training at a constant rate."""
    recipe = Recipe(budget.curve_rate, budget.curve_batch)
    lesson = Lesson(taught, recipe, budget.curve_steps, scored)
    learned = learn(model, rows, [lesson], budget.seed, progress)
    before = learned.before[scored]
    return Found(budget.curve_steps, learned.after[0], before, said=learned.said)


_STEPS = (
    "after {curve_steps} steps, lr {curve_rate:g}, batch {curve_batch}, seed {seed}"
)
ALL = Attack(
    "Relearning: all forget rows",
    "2506.12618",
    PROBABILITY,
    "{relearn_epochs} epoch(s) of all forget rows, which are scored; lr "
    "{relearn_rate:g} to 0, batch {relearn_batch}, seed {seed}",
    relearn_all,
)
RETAIN = Attack(
    "Relearning: retained rows",
    "2409.18025",
    PROBABILITY,
    f"retained rows alone, {_STEPS}",
    relearn_retain,
    axis="steps",
    needs=("retain",),
)
TEXT = Attack(
    "Relearning: plain text",
    "2409.18025",
    PROBABILITY,
    f"unrelated text alone, {_STEPS}",
    relearn_text,
    axis="steps",
)
PART = Attack(
    "Relearning: some of the facts",
    "2410.08827",
    PROBABILITY,
    f"{{part:g}} of the forgotten facts, the others are scored, {_STEPS}",
    relearn_part,
    axis="steps",
    least=2,
)
