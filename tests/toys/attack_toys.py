"""A small language model under attack, its rows, and what an attack leaves of it."""

import functools

import jax
import numpy as np

from experiments.config.language import EvalConfig
from experiments.domains.language.task import LanguageTask
from ofmu_jax.attacks.base import Attacked, Rows
from ofmu_jax.attacks.plain_text import PASSAGES
from ofmu_jax.data.language import prompts
from ofmu_jax.data.language.records import QA
from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.models.llama.model import LlamaConfig


def facts(who, count, first=0):
    """Facts of two rows each, the second in other words."""
    return [
        tuple(QA(f"{ask} {who} {i}?", f"{who} {i} is in town {i % 3}.") for ask in asks)
        for i in range(first, first + count)
        for asks in [("Where is", "In which town is")]
    ]


FORGOTTEN, KEPT = facts("Ann", 6), facts("Bo", 8)
ROWS = Rows(
    tuple(fact[0] for fact in FORGOTTEN),
    tuple(row for fact in FORGOTTEN for row in fact),
    tuple(row for fact in KEPT for row in fact),
    tuple(fact[0] for fact in facts("Cy", 4)),
    text=PASSAGES,
)


@functools.cache
def task():
    texts = [text for row in ROWS.forget + ROWS.retain for text in vars(row).values()]
    tokenizer = build_tokenizer([x for x in texts if isinstance(x, str)], 400)
    config = LlamaConfig(len(tokenizer), 16, 32, 2, 2, 1, 8)
    evaluation = EvalConfig(batch_size=16, max_new_tokens=4)
    fmt = prompts.format_for(tokenizer, "auto")
    return LanguageTask(config, tokenizer, fmt, 64, evaluation)


@functools.cache
def model():
    return Attacked(task(), task().init_params(0))


def same(params, others):
    """Whether two trees hold the same numbers."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
