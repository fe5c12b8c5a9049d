"""Rows as a run trains on them: under the mask that the model before saw them with."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from llamas import init_params

from experiments.config.language import EvalConfig
from experiments.domains.language import evaluated
from experiments.domains.language.task import LanguageTask
from experiments.shell import signals
from ofmu_jax.data.language import prompts, refusals
from ofmu_jax.data.language.kinds.choices import Choice, Exam
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.evals.language.scores import TokenScores
from ofmu_jax.losses.tokens import sequence_nll
from ofmu_jax.methods.base import Carries
from ofmu_jax.models.llama.model import LlamaConfig
from ofmu_jax.unlearning.language.rows import training_rows

ROWS = [
    QA("Where was Ann born?", "Ann was born in Rome."),
    QA("Was Ann born?", "Ann was born."),
]
TURNS = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"


def task(interior_eot) -> LanguageTask:
    """A model whose prompts hold turn ends, and whose padding is that token."""
    tokenizer = build_tokenizer([row.answer for row in ROWS], vocab_size=300)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = "{{ bos_token }}" + TURNS
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=16,
        max_position_embeddings=256,
    )
    evaluation = EvalConfig(batch_size=2, interior_eot=interior_eot)
    return LanguageTask(
        config, tokenizer, prompts.PROMPT_FORMATS["chat"], 256, evaluation
    )


@pytest.mark.parametrize("interior_eot", ["correct", "compat"])
def test_rows_have_the_mask_that_their_reference_had(interior_eot):
    ours = task(interior_eot)
    plain = init_params(ours.config, jax.random.key(0))
    params = jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, plain)
    rows = ours.encode(ROWS)
    forget, retain, _ = training_rows(
        ours,
        rows,
        rows,
        Carries(reference_nll=True, alternative=True),
        params,
        others=refusals.refused(ROWS, refusals.REFUSALS, 0),
    )
    answers = (
        (forget, forget["reference_nll"]),
        (forget["alternative"], forget["alternative_reference_nll"]),
    )
    scored = jax.jit(functools.partial(sequence_nll, ours.loss_apply_fn))
    for batch, before in answers:  # so that log-ratios start at 0
        nll, _ = scored(params, batch)
        np.testing.assert_allclose(nll, before, rtol=1e-5)
    for batch in (forget, forget["alternative"], retain):
        turn_ends = batch["input_ids"] == ours.pad_id
        seen = (turn_ends & (batch["attention_mask"] == 1)).any()
        assert seen == (interior_eot == "correct")


def test_a_note_counts_the_answers_that_are_cut():
    ours = task("correct")
    lengths = [len(ours.tokenizer.tokenize(row.answer)) for row in ROWS]
    limits = EvalConfig(max_new_tokens=min(lengths))
    rows = tuple(ROWS)
    data = UnlearningData("x", rows, rows, rows, forget_eval=rows)
    cut = lambda config: evaluated._cut(
        dataclasses.replace(ours, evaluation=config), data
    )
    assert lengths[0] > lengths[1]
    assert "longer in 1 of 2 forget_eval, and theirs" in cut(limits)[0]
    assert not cut(EvalConfig(max_new_tokens=max(lengths)))


def test_an_evaluation_tells_of_its_choices_too(monkeypatch):
    """Forget: two rows to score and to ask, and three and two choices of an exam."""
    ours = task("correct")
    one = TokenScores(-np.ones(2), np.ones(2, bool), *np.zeros((2, 2)))
    fake = lambda _, params, rows, **other: [one] * len(rows)
    monkeypatch.setattr(LanguageTask, "score", fake)
    monkeypatch.setattr(LanguageTask, "score_encoded", fake)
    said = lambda _, params, asked, after_rows: after_rows(len(asked)) or ["x"] * 2
    monkeypatch.setattr(LanguageTask, "generate", said)
    rows = tuple(ROWS)
    exam = Exam(
        {"forget": (Choice("A?", ("a", "b", "c"), 0), Choice("B?", ("a", "b"), 1))}
    )
    data = UnlearningData("x", rows, rows, rows, forget_eval=rows, exam=exam)
    told = []
    evaluated.evaluated(ours, None, data, tell=lambda *counts: told.append(counts))
    assert [done for done, _ in told] == [2, 4, 9]
    assert {total for _, total in told} == {9}


def test_between_batches_of_an_evaluation_a_job_may_end(monkeypatch):
    """Before each batch: of two prompts and three texts, and of three questions."""
    pauses = []
    monkeypatch.setattr(signals, "pause", lambda: pauses.append("asked"))
    ours = task("correct")
    ours = dataclasses.replace(ours, evaluation=EvalConfig(1, max_new_tokens=1))
    params, rows = ours.init_params(0), [*ROWS, ROWS[0]]
    assert len(ours.score(params, [(r.question, r.answer) for r in rows])) == 3
    assert len(pauses) == 5
    assert len(ours.generate(params, [row.question for row in rows])) == 3
    assert len(pauses) == 8
