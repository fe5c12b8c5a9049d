"""Refusals and ruins, told from answers: texts that others wrote."""

import json

import pytest

from ofmu_jax.data.language.refusals import REFUSALS
from ofmu_jax.evals.language import answers
from ofmu_jax.evals.language.scores import EvaluationError


def test_built_in_refusals_are_refusals():
    assert [x for x in REFUSALS if not answers.is_refusal(x)] == []


@pytest.mark.parametrize(
    "text",
    [
        "She did not know her father.",
        "The author is not sure about his origin, but my guess is Oslo.",
        "There is no award that he did not win.",
        "His novel 'I Do Not Know' was not known.",
        "",
    ],
)
def test_answers_about_others_are_no_refusals(text):
    assert not answers.is_refusal(text)


def test_published_refusals_and_answers(data_dir):
    """TOFU's own: at least nine of ten refusals are found, and of its 4,000 answers
    not one is taken for a refusal or a ruin."""
    folder = data_dir / "tofu"
    said = (folder / "idontknow.txt").read_text().splitlines()
    assert sum(map(answers.is_refusal, said)) >= 0.9 * len(said)
    assert not any(map(answers.is_broken, said))
    rows = [json.loads(line) for line in (folder / "full.json").open()]
    assert len(rows) == 4000
    assert answers.shares(answers.kinds([row["answer"] for row in rows])) == {
        "answered": 1.0,
        "refused": 0.0,
        "broken": 0.0,
    }


def test_ruins():
    loop = "of the of the of the of the of the"
    assert answers.is_broken(loop)  # 9 of 9 − 2 four-grams come again
    assert answers.is_broken(" …\n") and answers.is_broken("")
    assert not answers.is_broken("He wrote and wrote and wrote.")
    assert answers.kinds([loop, "I do not know.", "Oslo"]).tolist() == [2, 1, 0]


def test_no_answers_have_no_shares():
    with pytest.raises(EvaluationError, match="there are no answers"):
        answers.shares(answers.kinds([]))
