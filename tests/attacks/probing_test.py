"""A linear probe on streams that are made up, and on a model."""

import jax
import numpy as np
import pytest
from asked_toys import Network
from llamas import hidden_states

from ofmu_jax.attacks import probing
from ofmu_jax.attacks.base import Attacked, Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.attacks.registry import ATTACKS
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.language.scores import EvaluationError

NET = Network()


def rows(count, start, wrong=3):
    names = [chr(ord("a") + (start + i) % 26) + str(start + i) for i in range(count)]
    return tuple(
        QA(
            f"Who is {x}?",
            f"{x} is it",
            perturbed_answers=tuple(f"{x} no{k}" for k in range(wrong)),
        )
        for x in names
    )


def made_up(count, layers, truth, seed):
    """Right minus wrong answers: noise, and in one layer a direction of truth."""
    rng = np.random.default_rng(seed)
    found = [rng.normal(size=(layers, 4, 6)) for _ in range(count)]
    for row in found:
        row[1, :, 2] += truth
    return found


def test_finds_the_layer_and_the_direction(monkeypatch):
    kept, asked = rows(40, 0), rows(10, 100)
    told = {40: made_up(40, 3, 5.0, 0), 10: made_up(10, 3, 5.0, 1)}
    monkeypatch.setattr(probing, "differences", lambda _, rows: told[len(rows)])
    run = lambda: probing.probe(
        Attacked(NET, None),
        Rows(asked, asked, contrasts=kept),
        Budget(),
        lambda _: None,
    )
    found = run()
    assert found.said.startswith("layer 2, right on 100% of kept rows")
    assert found.scores.tolist() == [[1.0] * 10]
    told[10] = made_up(10, 3, -5.0, 1)  # what holds for kept rows fails for these
    assert run().scores.tolist() == [[0.0] * 10]
    told[10] = made_up(10, 3, 0.0, 1)
    assert abs(run().scores.mean() - 0.5) < 0.2


def test_what_is_below():
    row = np.array([[[1.0, 0.0], [-1.0, 5.0], [2.0, -1.0], [3.0, 0.0]]])
    assert probing.above(np.array([1.0, 0.0]), [row], 0).tolist() == [0.75]


def test_streams_at_the_end_of_answers():
    """Of each text, without padding: the model's own at the last character."""
    params = NET.made(0)
    asked = rows(3, 0, wrong=2)  # nine texts in batches of four
    found = probing.differences(Attacked(NET, params), asked)
    for row, got in zip(asked, found, strict=True):
        ends = []
        for text in (row.answer, *row.perturbed_answers):
            ids = np.array([[ord(x) for x in row.question + text]])
            layers = [
                hidden_states(NET.config, i, params, ids, np.ones_like(ids))[0, -1]
                for i in range(3)
            ]
            ends.append(np.stack(layers))
        right, *wrong = ends
        expected = np.stack([right - x for x in wrong], axis=1)
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_on_a_model():
    params = jax.tree.map(lambda x: x, NET.made(1))
    run = Rows(rows(4, 50), (), contrasts=rows(8, 0))
    found = ATTACKS["probe"].run(Attacked(NET, params), run, Budget(), lambda _: None)
    # The right answer always ends in "it", a wrong one in a number: that is learnt.
    assert found.scores.tolist() == [[1.0] * 4]
    bare = Rows((QA("Q?", "A"),), (), contrasts=rows(8, 0))
    lacks = ATTACKS["probe"].lacks(bare, Attacked(NET, params))
    assert lacks == "it needs contrasted rows"


def test_one_kept_row_with_wrong_answers_is_too_few():
    run = Rows(rows(1, 50), (), contrasts=(*rows(1, 0), QA("Q?", "A")))
    with pytest.raises(EvaluationError, match="1 has wrong answers"):
        ATTACKS["probe"].run(Attacked(NET, None), run, Budget(), lambda _: None)
