"""Answers and scores of an evaluation, live, against transformers' own code."""

import jax
import numpy as np
import pytest

from experiments.config.parts import EvalConfig
from experiments.domains.language.task import LanguageTask
from experiments.studies import torch_evaluation
from ofmu_jax.data.language.prompts import PROMPT_FORMATS
from ofmu_jax.data.language.records import QA
from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.models.llama.model import LlamaConfig

QUESTIONS = [f"{word} is {word * n}?" for n, word in enumerate(("who", "it", "a"), 1)]


@pytest.fixture(scope="module", params=[None, 6], ids=["all", "window"])
def task(request):
    """Random weights, large enough for clear choices; heads share keys."""
    tokenizer = build_tokenizer([*QUESTIONS, "yes or no"], vocab_size=280)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=4,
        sliding_window=request.param,
        initializer_range=0.5,
    )
    evaluation = EvalConfig(batch_size=2, max_new_tokens=12)
    fmt = PROMPT_FORMATS["plain"]
    return LanguageTask(config, tokenizer, fmt, 128, evaluation)


def test_answers_and_scores_are_those_of_transformers(task):
    params = jax.device_get(task.init_params(0))
    other = torch_evaluation.Other(task, params)
    prompts = [[task.prompt(question) for question in QUESTIONS]]
    # Two rows at once: the third question joins when one of them has ended.
    texts = task.generate(params, QUESTIONS)
    assert texts == other.answers(prompts, 3) == other.answers(prompts, 1)
    answers = ("yes", "no or yes", "it")
    rows = [QA(question, text) for question in QUESTIONS for text in answers]
    examples = task.encode(rows)
    ours = [scores.avg_loss for scores in task.score_encoded(params, examples)]
    np.testing.assert_allclose(ours, other.losses([examples], 4), rtol=1e-5)
