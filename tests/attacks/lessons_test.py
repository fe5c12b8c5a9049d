"""What is taught, for how long, and what is scored: no row where it must not be."""

import numpy as np
import pytest
from attack_toys import FORGOTTEN, ROWS, model, task

from ofmu_jax.attacks import few_shot, lessons, plain_text, relearning, teaching
from ofmu_jax.attacks.base import Rows
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.data.language.records import QA

SILENT = lambda share: None


@pytest.fixture
def planned(monkeypatch):
    """The lessons of an attack, in place of its trainings; number n of them gives every
    row it scores n."""
    found = []

    def learn(model, rows, planned, seed, progress):
        found.extend(planned)
        after = [
            np.full((len(lesson.looks), len(lesson.scored)), number)
            for number, lesson in enumerate(planned)
        ]
        return lessons.Learned(np.zeros(len(rows.scored)), after, "")

    for module in (relearning, teaching, few_shot):
        monkeypatch.setattr(module, "learn", learn)
    return found


def texts(examples):
    return {task().tokenizer.decode(example.input_ids) for example in examples}


def of_facts(numbers):
    rows = [row for number in numbers for row in FORGOTTEN[number]]
    return texts(task().encode(rows))


def test_a_fact_has_all_its_rows():
    assert lessons.facts(ROWS) == FORGOTTEN
    stray = QA("Who?", "Nobody.")
    some = Rows((stray, ROWS.forget[2]), ROWS.forget)
    assert lessons.facts(some) == [(stray,), ROWS.forget[2:]]


def test_either_half_is_taught_and_the_other_scored(planned):
    budget = Budget(teach_rates=(0.1, 0.2), teach_epochs=2, teach_batch=4)
    found = teaching.teach_test(model(), ROWS, budget, SILENT)
    first, second = range(3), range(3, 6)
    for lesson, (taught, scored) in zip(
        planned, 2 * [(first, second), (second, first)], strict=True
    ):
        assert texts(lesson.taught) == of_facts(taught)
        assert lesson.scored.tolist() == list(scored)
        assert lesson.looks == (3,)  # 2 epochs of 6 rows in batches of 4
    assert [lesson.recipe.rate for lesson in planned] == [0.1, 0.1, 0.2, 0.2]
    assert [lesson.recipe.warmup for lesson in planned] == [1.0] * 4  # half of 3, down
    assert found.at == (0.1, 0.2)
    expected = [[1, 1, 1, 0, 0, 0], [3, 3, 3, 2, 2, 2]]
    np.testing.assert_array_equal(found.scores, expected)


def test_some_facts_are_taught_and_the_others_scored(planned):
    budget = Budget(part=0.34, curve_steps=(1, 2))
    found = relearning.relearn_part(model(), ROWS, budget, SILENT)
    (lesson,) = planned
    assert texts(lesson.taught) == of_facts([0, 5])
    assert lesson.scored.tolist() == [1, 2, 3, 4] and found.scores.shape == (2, 4)
    assert found.before is not None and found.before.shape == (4,)


@pytest.mark.parametrize("part, taught", [(0.01, [0]), (0.99, [0, 1, 2, 4, 5])])
def test_one_fact_is_taught_and_one_is_scored_at_least(planned, part, taught):
    relearning.relearn_part(model(), ROWS, Budget(part=part), SILENT)
    (lesson,) = planned
    assert texts(lesson.taught) == of_facts(taught)
    assert sorted([*taught, *lesson.scored]) == list(range(6))


def test_a_budget_is_told_to_the_last_digit():
    """What a result is filed under: two budgets never read the same."""
    told = {relearning.PART.budget_text(Budget(part=x)) for x in (0.25, 0.252)}
    assert len(told) == 2


@pytest.mark.parametrize("count, updates", [(40, 2), (400, 13)])
def test_the_fields_form_on_tofu(planned, count, updates):
    """One epoch in batches of 32: two updates on forget01, 13 on forget10."""
    rows = tuple(QA(f"{i}?", f"{i}.") for i in range(count))
    found = relearning.relearn_all(model(), Rows(rows, rows), Budget(), SILENT)
    assert found.at == (updates,) and planned[0].recipe == (
        *(2e-5, 32, 0.0, float(updates)),
        None,
    )


@pytest.mark.parametrize("attack", [relearning.relearn_retain, relearning.relearn_text])
def test_no_forget_row_is_taught(planned, attack):
    attack(model(), ROWS, Budget(), SILENT)
    (lesson,) = planned
    assert not texts(lesson.taught) & of_facts(range(6))
    assert lesson.looks == (10, 50, 100, 250) and len(lesson.scored) == 6


def test_few_samples_and_a_rank_that_fits(planned):
    """16 retained rows: 5 and 10 of them, and all where 50 or 100 are asked for."""
    found = few_shot.few_shot("retain", model(), ROWS, Budget(), SILENT)
    assert found.at == (5, 10, 16) and found.said == "rank 8"
    assert [lesson.looks for lesson in planned] == [(15,), (30,), (48,)]
    assert [lesson.recipe.warmup for lesson in planned] == [0.0, 1.0, 2.0]


def test_passages_have_all_their_tokens_but_the_first():
    (example,) = plain_text.passages(task(), ["Ann is in town."])
    assert example.labels[0] == -100
    np.testing.assert_array_equal(example.labels[1:], example.input_ids[1:])
    assert len(plain_text.passages(task(), [500 * "town "])[0]) == plain_text.MOST


def test_a_model_that_breaks_answers_nothing():
    lesson = lessons.Lesson(
        task().encode(ROWS.forget),
        relearning.Recipe(float("inf"), 4),
        (1,),
        np.arange(6),
    )
    learned = lessons.learn(model(), ROWS, [lesson], 0, SILENT)
    assert learned.before.min() > 0 and not learned.after[0].any()
    assert learned.said == "1 trained models were not finite"
