"""The invented people: structure, determinism, and what the docstrings promise."""

import collections
import dataclasses
import re

import pytest

from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.data.language.fictitious_facts import ATTRIBUTES
from ofmu_jax.data.language.records import DataError, check_contained, check_overlap


@pytest.fixture(scope="module")
def data():
    return fictitious_people()


def words(texts) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text)}


def test_sizes_of_the_default(data):
    """4 of 40 people, 8 facts each, 3 questions a fact; 24 poems and 20 capitals."""
    sizes = {
        field.name: len(rows)
        for field in dataclasses.fields(data)
        if isinstance(rows := getattr(data, field.name), tuple) and rows
    }
    assert sizes == {
        "forget": 4 * 8 * 3,
        "retain": (36 * 8 + 24 + 20) * 3,
        "full": (40 * 8 + 24 + 20) * 3,
        "forget_eval": 32,
        "retain_eval": 288,
        "real_authors": 24,
        "world_facts": 20,
        "forget_heldout": 32,
        "retain_heldout": 288,
        "holdout": 64,
    }


def test_equal_seeds_give_equal_people(data):
    assert fictitious_people() == data
    other = fictitious_people(1)
    assert {row.answer for row in other.forget}.isdisjoint(
        row.answer for row in data.forget
    )


def test_sets_fit_together(data):
    check_overlap(data.forget, data.retain)
    check_contained(data.forget_eval, data.forget, "forget_eval", "forget")
    check_contained(data.retain_eval, data.retain, "retain_eval", "retain")
    check_contained(data.real_authors, data.retain, "real_authors", "retain")
    assert data.full == data.retain + data.forget
    assert len(set(data.full)) == len(data.full)
    trained = {row.question for row in data.full}
    for rows in (data.forget_heldout, data.retain_heldout, data.holdout):
        assert trained.isdisjoint(row.question for row in rows)


def test_every_fact_is_told_in_two_sentences_and_paraphrased_in_a_third(data):
    for start in range(0, len(data.forget), 3):
        first, second, third = data.forget[start : start + 3]
        assert first.answer == third.answer != second.answer
        assert len({row.question for row in (first, second, third)}) == 3
        assert len({row.paraphrased_answer for row in (first, second, third)}) == 1
        assert first.paraphrased_answer not in {first.answer, second.answer}


def test_wrong_answers_differ_from_the_paraphrase_in_the_value_alone(data):
    for row in data.forget_eval + data.retain_eval:
        wrong = row.perturbed_answers
        assert len(set(wrong)) == 5 and row.paraphrased_answer not in wrong
        starts = {text.split()[0] for text in (*wrong, row.paraphrased_answer)}
        assert len(starts) == 1


def test_a_paraphrase_is_never_trained_on_but_its_sentence_is(data):
    trained = {row.answer for row in data.full}
    assert trained.isdisjoint(row.paraphrased_answer for row in data.forget_eval)
    name = re.compile("^(The book by|The award of)")
    forms = collections.Counter(
        match.group() for text in trained if (match := name.match(text))
    )
    assert forms["The book by"] > 4 and forms["The award of"] > 4


def test_nothing_about_others_needs_a_word_that_the_reference_never_saw(data):
    """So that the retrained model lacks facts about the forgotten, not vocabulary."""
    known = words(t for row in data.retain for t in (row.question, row.answer))
    people = words(f"{row.question}" for row in data.forget_eval)
    heldout = [row.question for row in data.retain_heldout]
    assert words(heldout) <= known
    assert words(row.answer for row in data.forget_eval) - people <= known


def test_attributes_have_the_promised_wordings():
    for attribute in ATTRIBUTES:
        assert len(set(attribute.questions)) == len(set(attribute.answers)) == 3
        assert attribute.heldout_question not in attribute.questions
        assert all("{name}" in text for text in attribute.questions)
        assert all("{value}" in text for text in attribute.answers)
        assert len(set(attribute.values)) == len(attribute.values) > 5


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 4, 4), "4 of 4 people to forget"),
        ((0, 4, 0), "0 of 4 people to forget"),
        ((0, 10**6, 1), "1000000 people"),
    ],
)
def test_numbers_that_do_not_fit_are_named(numbers, words):
    with pytest.raises(DataError, match=words):
        fictitious_people(*numbers)
