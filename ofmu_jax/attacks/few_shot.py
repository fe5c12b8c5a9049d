"""Low-rank adapters trained on few samples (Łucki et al., arXiv 2409.18025).

On retained rows nothing of what was forgotten is taught; on forget rows it is, to the
extent of the samples, which are scored with the others.
"""

import functools

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
from ofmu_jax.attacks.lessons import Lesson, learn
from ofmu_jax.data.language import batches
from ofmu_jax.data.order import evenly_spaced
from ofmu_jax.methods import Lora
from ofmu_jax.models.llama.config import LlamaConfig


def smallest_dimension(config: LlamaConfig) -> int:
    """Of the matrices that get adapters: a higher rank than it adds nothing."""
    heads = config.num_kv_heads * config.head_dim
    return min(config.hidden_size, config.intermediate_size, heads)


def few_shot(
    source: str, model: Attacked, rows: Rows, budget: Budget, progress: Progress
) -> Found:
    """Adapters trained on each number of samples, evenly spaced.

    Args:
      source: field of ``rows`` that they are of.
    """
    given, size = getattr(rows, source), budget.lora_batch
    counts = tuple(sorted({min(n, len(given)) for n in budget.lora_samples}))
    rank = min(budget.lora_rank, smallest_dimension(model.subject.config))
    lora, lessons = Lora(rank, budget.lora_alpha), []
    for count in counts:
        chosen = [given[i] for i in evenly_spaced(len(given), count)]
        updates = batches.num_batches(count, size, budget.lora_epochs)
        warmup, until = float(updates // 20), float(updates)
        recipe = Recipe(budget.lora_rate, size, warmup, until, lora)
        taught, every = model.subject.encode(chosen), np.arange(len(rows.scored))
        lessons.append(Lesson(taught, recipe, (updates,), every))
    learned = learn(model, rows, lessons, budget.seed, progress)
    said = "; ".join(filter(None, [f"rank {rank}", learned.said]))
    return Found(counts, np.concatenate(learned.after), learned.before, said=said)


_LORA = (
    "rank {lora_rank} or what fits, alpha "
    "{lora_alpha:g}, {lora_epochs} epochs, lr {lora_rate:g} to 0, batch {lora_batch}, "
    "seed {seed}"
)
ON_RETAIN = Attack(
    "LoRA on few retained rows",
    "2409.18025",
    PROBABILITY,
    "{lora_samples} retained rows, " + _LORA,
    functools.partial(few_shot, "retain"),
    axis="samples",
    needs=("retain",),
)
ON_FORGET = Attack(
    "LoRA on few forget rows",
    "2409.18025",
    PROBABILITY,
    "{lora_samples} forget rows, which are among those scored, " + _LORA,
    functools.partial(few_shot, "forget"),
    axis="samples",
)
