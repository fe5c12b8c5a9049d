"""What a run aims at: the choices of the forget goal."""

import dataclasses
import math

import pytest

from ofmu_jax.data.language import fictitious
from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals.language.scores import EvaluationError
from ofmu_jax.unlearning.language import goal


def test_forget_target_choices():
    data = fictitious.fictitious_people(0, 4, 1)

    class Task:
        """Every pair scores 1 nat, under parameters "reference" 2."""

        def score(self, params, pairs):
            loss = 2.0 if params == "reference" else 1.0
            return [type("Scores", (), {"avg_loss": loss})() for _ in pairs]

    choose = lambda choice, reference: goal.forget_target(
        choice, data, Task(), "target", reference
    )
    assert choose("auto", "reference") == choose("reference", "reference") == 2.0
    assert choose("auto", None) == choose("chance", None) == 1.0
    assert choose("none", None) is None
    assert choose("1.5", None) == 1.5
    with pytest.raises(ValueError, match="needs a retrained model"):
        choose("reference", None)
    with pytest.raises(ValueError, match="is soon; it must be reference"):
        choose("soon", None)


def test_chance_takes_the_best_rows_there_are():
    row = lambda name, *wrong: QA(f"{name}?", f"{name}.", None, None, wrong)
    data = UnlearningData(
        "x",
        forget=(row("a", "z."), row("b")),
        retain=(row("c"), row("d"), row("e"), row("f")),
        full=(row("a"),),
        forget_eval=(row("a", "z."), row("b")),
        holdout=(row("h"),),
    )
    assert goal.chance_pairs(data) == ([("h?", "h.")], "hold-out rows")
    data = dataclasses.replace(data, holdout=())
    assert goal.chance_pairs(data) == ([("a?", "z.")], "perturbed answers")
    data = dataclasses.replace(data, forget_eval=(row("a"), row("b")))
    unrelated = [("a?", "c."), ("b?", "e.")]
    assert goal.chance_pairs(data) == (unrelated, goal.UNRELATED)


def test_a_model_that_diverged_is_looked_at_without_an_error():
    """The loop ends at a value that is not finite, with the last good parameters."""

    class Task:
        """Scores nothing under parameters that are not finite."""

        def score_encoded(self, params, examples):
            if params == "diverged":
                raise EvaluationError("the log-probabilities are not finite")
            return [type("Scores", (), {"avg_loss": 2.0})() for _ in examples]

    look = goal.Look(Task(), ["a"], ["b", "c", "d"], 2)
    assert look("good")["forget_nll"] == 2.0
    found = look("diverged")
    assert found.keys() == look("good").keys()
    assert all(math.isnan(value) for value in found.values())
