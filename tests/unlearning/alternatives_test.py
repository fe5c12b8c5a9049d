"""Which of the target's own answers AltPO teaches."""

import types
from typing import Any

from ofmu_jax.data.language.records import QA
from ofmu_jax.data.language.refusals import REFUSALS
from ofmu_jax.methods.base import Alternatives
from ofmu_jax.unlearning.language.alternatives import described, made_up

ROWS = [QA("Where was Ann born?", "in Rome"), QA("Who is Bo?", "a cook of note")]


def taught(texts, how="sampled", draws=3):
    """The answers that are chosen of these, and what the target was asked."""
    seen = []

    def generate(*arguments):
        seen.append(arguments)
        return texts

    task: Any = types.SimpleNamespace(generate=generate)
    rows = made_up(task, "target", ROWS, Alternatives(how, 1.5, draws), seed=7)
    assert [row.question for row in rows] == [row.question for row in ROWS]
    return [row.answer for row in rows], seen[0]


def test_the_draw_least_like_the_right_answer_is_taken():
    """Recalls 1, ½, ½ of the first row (the first of equals), 1, ½, ¼ of the second."""
    draws = ["in Rome", "a cook of note", "in Oslo", "a cook", "Rome", "a pilot"]
    answers, (params, asked, temperature, seed) = taught(draws)
    assert answers == ["in Oslo", "a pilot"]
    assert asked == [row.question for row in ROWS] * 3
    assert (params, temperature, seed) == ("target", 1.5, 7)


def test_a_model_that_says_nothing_teaches_a_refusal():
    answers, _ = taught(["", "", "", "a cook of note", "", ""])
    assert answers == [REFUSALS[0], "a cook of note"]


def test_a_model_that_follows_instructions_is_asked_for_other_facts():
    _, (_, asked, _, _) = taught(["x", "y"], "prompted", draws=1)
    assert all(row.question in x for x, row in zip(asked, ROWS, strict=True))
    assert all(row.answer in x for x, row in zip(asked, ROWS, strict=True))
    assert "a different one" in asked[0]
    assert "asked to make one up" in described(Alternatives("prompted", 1.0, 5))
