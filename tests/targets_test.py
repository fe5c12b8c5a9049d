"""What a run aims at: the choices of the forget target, and rows evenly spaced."""

import pytest

from experiments import targets
from ofmu_jax.data import fictitious


def test_forget_target_choices():
    data = fictitious.fictitious_people(0, 4, 1)

    class Task:
        """Every pair scores 1 nat, under parameters "reference" 2."""

        def score(self, params, pairs):
            loss = 2.0 if params == "reference" else 1.0
            return [type("Scores", (), {"avg_loss": loss})() for _ in pairs]

    choose = lambda choice, reference: targets.forget_target(
        choice, data, Task(), "target", reference
    )
    assert choose("auto", "reference") == choose("reference", "reference") == 2.0
    assert choose("auto", None) == choose("chance", None) == 1.0
    assert choose("none", None) is None
    assert choose("1.5", None) == 1.5
    with pytest.raises(ValueError, match="needs a retrained model"):
        choose("reference", None)
    with pytest.raises(ValueError, match="'soon' is unknown"):
        choose("soon", None)


def test_spaced_keeps_order_and_ends():
    assert targets.spaced(range(10), 4) == [0, 3, 6, 9]
    assert targets.spaced(range(3), 4) == [0, 1, 2]
