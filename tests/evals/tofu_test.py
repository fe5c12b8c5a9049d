"""The whole TOFU evaluation of a model by script: answers known by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest

from ofmu_jax.data.language.records import QA, UnlearningData
from ofmu_jax.evals.evaluation import EvalOptions, Evaluation, fingerprint
from ofmu_jax.evals.language import metrics
from ofmu_jax.evals.language.comparison import compare_with_reference
from ofmu_jax.evals.language.scores import EvaluationError, TokenScores
from ofmu_jax.evals.language.tofu import evaluate_language, num_texts

FAST = EvalOptions(num_resamples=200)


# A model by script: the loss of every text is written in its first word.


def qa(question, loss, paraphrase, *wrong):
    text = lambda value: None if value is None else f"{value} text of an answer"
    return QA(
        question, text(loss), None, text(paraphrase), tuple(text(w) for w in wrong)
    )


def make_data(**changes):
    row = lambda name, i: qa(f"{name} {i}?", 1.0 + i, 2.0, 1.5 + i, 2.5 + i)
    sets = {
        field: tuple(row(field, i) for i in range(4))
        for field in ("forget_eval", "retain_eval", "real_authors", "world_facts")
    }
    sets["forget_heldout"] = (qa("again?", 3.0, None),)
    sets["retain_heldout"] = (qa("kept again?", 0.5, None),)
    sets["holdout"] = tuple(qa(f"new {i}?", 4.0 + i, None) for i in range(3))
    sets.update(changes)
    forget, retain = sets["forget_eval"], sets["retain_eval"]
    some = (qa("any?", 1.0, None),)
    return UnlearningData(
        "scripted", forget or some, retain or some, (*retain, *forget) or some, **sets
    )


def score(pairs):
    """Four tokens and an end of sequence, each with the loss the text names."""
    losses = [float(answer.split()[0]) for _, answer in pairs]
    correct = np.array([False, True, False, True, True])
    return [
        TokenScores(np.full(5, -loss), correct, np.full(5, -1.0), np.ones(5))
        for loss in losses
    ]


def generate(questions):
    return ["text of" for _ in questions]


def test_scripted_model_by_hand():
    data = make_data()
    found = evaluate_language(data, score=score, generate=generate, options=FAST)
    losses = 1.0 + np.arange(4)
    wrong = np.array([[1.5, 2.5]]) + np.arange(4)[:, None]
    # Forget and retain: paraphrase (loss 2) against perturbed answers (2 + i).
    ratios = np.exp(-np.arange(4.0))
    expect = {
        "forget_Q_A_Prob": np.exp(-losses).mean(),
        "retain_Q_A_Prob": np.exp(-losses).mean(),
        "forget_truth_ratio": ratios.mean(),
        "forget_truth_ratio_prob_mean": (1 / (1 + ratios)).mean(),
        "retain_Truth_Ratio": (1 - ratios).mean(),
        # Real authors and world facts: the original answer is the right text, so the
        # ratio is exp(1 + i − (2 + i)), though a paraphrase is there.
        "ra_Truth_Ratio": 1 - math.exp(-1),
        "wf_Truth_Ratio": 1 - math.exp(-1),
        "ra_Q_A_Prob_normalised": 1 / (1 + math.exp(-0.5) + math.exp(-1.5)),
        "wf_Q_A_Prob_normalised": 1 / (1 + math.exp(-0.5) + math.exp(-1.5)),
        "forget_Q_A_ROUGE": 2 / 6,  # "text of" of "1 0 text of an answer"
        "extraction_strength": 0.25,
        "exact_memorization": 0.5,
        "forget_heldout_Q_A_Prob": math.exp(-3),
        "retain_heldout_Q_A_Prob": math.exp(-0.5),
        "mia_loss": (12 - 0.5) / 12,  # losses 1, 2, 3, 4 against 4, 5, 6
        "privleak": (1 - 11.5 / 12 - 0.5) / 0.5 * 100,
    }
    assert wrong.mean(axis=1) == pytest.approx(losses + 1)
    for name, value in expect.items():
        assert found.metrics[name] == pytest.approx(value, abs=1e-6), name
    terms = [found.metrics[name] for name in metrics.UTILITY_TERMS]
    assert found.metrics["model_utility"] == pytest.approx(
        9 / np.sum(1 / np.array(terms))
    )
    assert set(found.missing) >= {"forget_quality", "forget_quality_ks"}
    assert not set(found.missing) & set(found.metrics)
    assert not [
        name
        for name in found.missing
        if name.startswith(("mia_", "ra_")) and not name.endswith("_gap")
    ]
    assert set(found.intervals) <= set(found.metrics)
    assert found.examples["forget_truth_ratio"] == pytest.approx(ratios.tolist())


def test_one_scoring_call_per_set_and_no_text_twice():
    calls = []

    def counting(pairs):
        calls.append(list(pairs))
        return score(pairs)

    data = make_data(holdout=(), forget_heldout=(), retain_heldout=())
    evaluate_language(data, score=counting, generate=generate, options=FAST)
    assert num_texts(data) == 54 + 4 * 4  # all of these, and a question a row
    assert len(calls) == 4
    # 4 answers, 4 paraphrases and 8 perturbed; no paraphrase in RA and WF, and one
    # row whose paraphrase is its answer (loss 2.0) is scored once.
    assert [len(call) for call in calls] == [15, 15, 12, 12]
    assert all(len(set(call)) == len(call) for call in calls)


def test_empty_sets_are_named_never_zero():
    empty = {
        field: ()
        for field in ("real_authors", "world_facts", "holdout", "forget_heldout")
    }
    found = evaluate_language(
        make_data(**empty), score=score, generate=generate, options=FAST
    )
    for name in ("ra_Q_A_Prob", "wf_Truth_Ratio", "mia_min_k", "privleak"):
        assert name in found.missing and name not in found.metrics
    assert found.missing["ra_Truth_Ratio"] == "the real_authors set is empty"
    assert found.missing["forget_heldout_Q_A_Prob"] == "the forget_heldout set is empty"
    assert "ra_Q_A_Prob_normalised" in found.missing["model_utility"]
    assert "model_utility" not in found.metrics

    none = evaluate_language(
        make_data(forget_eval=()), score=score, generate=generate, options=FAST
    )
    names = {"forget_truth_ratio", "extraction_strength", "mia_loss", "forget_Q_A_Prob"}
    assert names <= set(none.missing) and not names & set(none.metrics)
    assert "model_utility" in none.metrics


def test_without_generation_or_perturbed_answers():
    rows = (*make_data().forget_eval[:2], qa("bare?", 1.0, None))
    found = evaluate_language(make_data(forget_eval=rows), score=score, options=FAST)
    assert found.missing["retain_Q_A_ROUGE"] == "no generate function was given"
    assert "the first is row 3" in found.missing["forget_truth_ratio"]
    assert "forget_Q_A_Prob" in found.metrics and "model_utility" in found.missing
    assert "extraction_strength" in found.metrics


def test_rows_without_paraphrase_take_the_answer_with_a_note():
    rows = (qa("a?", 1.0, None, 2.0), qa("b?", 1.0, 2.0, 2.0))
    found = evaluate_language(
        make_data(forget_eval=rows), score=score, generate=generate, options=FAST
    )
    ratios = found.examples["forget_truth_ratio"]
    assert ratios == pytest.approx([math.exp(-1), 1.0])
    assert any(note.startswith("forget truth ratio: 1 of 2") for note in found.notes)


def test_comparison_with_a_reference():
    data = make_data()
    evaluate = lambda score: evaluate_language(
        data, score=score, generate=generate, options=FAST
    )
    reference = evaluate(score)

    def shifted(pairs):  # knows the trained forget answers, and only those, better
        return [
            dataclasses.replace(s, log_prob=s.log_prob / 2)
            if question.startswith("forget_eval") and answer.endswith("answer")
            else s
            for s, (question, answer) in zip(score(pairs), pairs, strict=True)
        ]

    model = evaluate(shifted)
    assert model.missing["forget_quality"].startswith("no evaluation of a retrained")
    found = compare_with_reference(model, reference)
    again = evaluate_language(
        data, score=shifted, generate=generate, reference=reference, options=FAST
    )
    assert found.metrics == again.metrics and found.missing == again.missing
    expected = np.mean(np.exp(-(1.0 + np.arange(4)) / 2)) - np.mean(
        np.exp(-(1.0 + np.arange(4)))
    )
    assert found.metrics["forget_Q_A_Prob_difference"] == pytest.approx(expected)
    low, high = found.intervals["forget_Q_A_Prob_difference"]
    assert low < expected < high
    assert found.metrics["indistinguishable_from_reference"] == 0.0
    assert found.metrics["mia_loss_gap"] == pytest.approx(0.5 / 12)
    a, r = (1 - e.metrics["mia_min_k"] for e in (found, reference))
    assert found.metrics["privleak"] == pytest.approx((a - r) / r * 100)
    assert "forget_quality" not in found.missing
    assert not any("privleak" in note for note in found.notes)
    assert any("privleak" in note for note in model.notes)  # the argument is unchanged

    back = compare_with_reference(found, None)
    assert back.metrics == model.metrics and back.missing == model.missing

    other = evaluate_language(
        make_data(forget_eval=data.retain_eval), score=score, options=FAST
    )
    with pytest.raises(EvaluationError, match="evaluated on other forget rows"):
        compare_with_reference(model, other)


def test_too_few_results_are_refused():
    with pytest.raises(EvaluationError, match="score returned 14 results for 15 pairs"):
        evaluate_language(make_data(), score=lambda pairs: score(pairs[1:]))
    with pytest.raises(EvaluationError, match="generate returned 0 texts for 16"):
        evaluate_language(make_data(), score=score, generate=lambda questions: [])


def test_json_round_trip_without_texts(tmp_path):
    found = evaluate_language(make_data(), score=score, generate=generate, options=FAST)
    text = found.to_json()
    assert "text of" not in text and "eval 0?" not in text
    again = Evaluation.from_json(text)
    assert again == dataclasses.replace(found, generations={})
    full = Evaluation.from_json(found.to_json(include_generations=True))
    assert full == found and full.generations["forget"] == ["text of"] * 4
    found.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=0), "version 0, this code reads version 1"),
        (lambda c: c.update(schema="other"), "not an evaluation"),
        (lambda c: c.pop("metrics"), r"missing fields \['metrics'\]"),
        (lambda c: c["options"].update(odd=1), "damaged evaluation: options"),
    ],
)
def test_json_of_another_kind_is_refused(change, message):
    content = json.loads(Evaluation().to_json())
    change(content)
    with pytest.raises(EvaluationError, match=message):
        Evaluation.from_json(json.dumps(content))
    with pytest.raises(EvaluationError, match="invalid JSON"):
        Evaluation.from_json("{")


def test_options_and_fingerprint():
    with pytest.raises(ValueError, match="truth_ratio must be one of"):
        EvalOptions(truth_ratio="prob_mean")
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
        EvalOptions(confidence=95)
    assert fingerprint([("a", "b")]) == fingerprint([("a", "b")])
    assert fingerprint([("a", "b")]) != fingerprint([("ab", "")])
    assert fingerprint([("a", "b"), ("c", "d")]) != fingerprint(
        [("c", "d"), ("a", "b")]
    )
