"""Teach T, test V (Deeb and Roger, arXiv 2410.08827): half of the forgotten facts are
taught again and the *other* half is scored.

The facts are independent: what comes back was not taught, it was in the weights.
"""

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
from ofmu_jax.data.language import batches


def teach_test(
    model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Either half is taught and the other scored, at each of the learning rates.

    The halves are the first and the second in the order of the rows, where what is
    about one person stands together.
    """
    rates, size, count = budget.teach_rates, budget.teach_batch, len(rows.scored)
    groups, halves = facts(rows), np.array_split(np.arange(count), 2)
    lessons = []
    for rate in rates:
        for taught, tested in (halves, halves[::-1]):
            examples = model.subject.encode(flat(groups[i] for i in taught))
            updates = batches.num_batches(len(examples), size, budget.teach_epochs)
            warmup = min(budget.teach_warmup, updates // 2)
            recipe = Recipe(rate, size, float(warmup))
            lessons.append(Lesson(examples, recipe, (updates,), tested))
    learned = learn(model, rows, lessons, budget.seed, progress)
    scores = np.empty((len(rates), count))
    for number, (lesson, after) in enumerate(zip(lessons, learned.after, strict=True)):
        scores[number // 2, lesson.scored] = after[0]
    return Found(rates, scores, learned.before, said=learned.said)


TEACH_TEST = Attack(
    "Teach half, test the other half",
    "2410.08827",
    PROBABILITY,
    "{teach_epochs} epochs of the taught half, best lr of {teach_rates:g} after "
    "{teach_warmup} steps of warm-up at most, batch {teach_batch}, seed {seed}",
    teach_test,
    axis="learning rate",
    least=2,
)
