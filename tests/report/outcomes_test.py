"""A verdict a method in the report and on its page, and when there is none to give."""

import copy

import pytest
from reports import make_model, written

from experiments.pipeline import execute
from experiments.report import outcomes, words, write


def numbers(forget, retain):
    return {"forget_Q_A_Prob": forget, "retain_Q_A_Prob": retain}


@pytest.fixture
def request_alone(content):
    """A request without a retrained model: one method moved nothing, one did it."""
    still = make_model("unlearned", "grad_diff", 0, **numbers(0.965, 0.97))
    moved = make_model("unlearned", "ofmu", 0, **numbers(0.238, 0.95))
    content["models"] = [
        make_model("target", "target", 0, **numbers(0.968, 0.97)),
        still | {"forget_target": 2.0, "forget_target_met": False},
        moved | {"forget_target": 2.0, "forget_target_met": True},
    ]
    content["claims"] = [
        {"method": "grad_diff", "text": "it keeps", "holds": True, "evidence": ""}
    ]
    return content


def test_a_model_that_forgot_nothing_is_not_green(tmp_path, request_alone):
    report, text, page = written(tmp_path, request_alone)
    still, moved = report["verdicts"]
    assert (still["forgot"]["word"], still["badge"], still["failed"]) == (
        *("not enough", "bad"),
        True,
    )
    assert (moved["forgot"]["word"], moved["badge"], moved["failed"]) == (
        *("forgot", "good"),
        False,
    )
    words = " ".join(" ".join(page.text).split())
    assert "1 of 2 methods forgot; 1 of these kept the rest." in words
    assert '<span class="chip bad">not enough · kept</span>' in text
    assert '<span class="chip good">forgot · kept</span>' in text
    cards = text[text.index('class="rows"') : text.index('class="key ')]
    assert cards.count("chip good") == 1 and "Forgotten" not in cards
    assert "Not enough: the probability" in words
    assert "fell from 0.968 to 0.965" in words


def test_a_method_is_as_good_as_its_worst_seed(tmp_path, content):
    """OFMU has 0.1, 0.2 and 0.3, the retrained model 0.1: within 0.1 is forgotten."""
    report, _, page = written(tmp_path, content)
    ofmu, ascent = report["verdicts"]
    assert ofmu["forgot"] == {
        "word": "not enough",
        "metric": "forget_Q_A_Prob",
        "why": "",
        "seeds": 1,
    }
    assert (ofmu["kept"]["word"], ofmu["seeds"]) == ("kept", 3)
    assert (ascent["forgot"]["word"], ascent["destroyed"]) == ("cannot tell", True)
    words = " ".join(" ".join(page.text).split())
    assert "Not enough in 1 of 3 seeds: the probability" in words
    assert [m["verdict"]["failed"] for m in report["models"][2::4]] == [
        *(False, False),
        True,
    ]


def never_learned(content):
    for model in content["models"]:
        forget = {"target": 0.004, "retrained": 0.003, "unlearned": 0.001}
        model["metrics"] |= {"forget_Q_A_Prob": forget[model["role"]]}
        model["metrics"] |= {"indistinguishable_from_reference": 1.0}
    return content


def test_nothing_to_forget_comes_first_and_in_place_of_claims(tmp_path, content):
    before = copy.deepcopy(content)
    report, _, page = written(tmp_path, never_learned(content))
    assert report["claims"] == []
    assert report["nothing_to_forget"] == {
        "metric": "forget_Q_A_Prob",
        "target": 0.004,
        "retrained": 0.003,
        "retain": 0.9,
        "forget_target_met": None,
    }
    words = " ".join(" ".join(page.text).split())
    lead = words[words.index("ofmu_jax report") :]
    assert lead.startswith("ofmu_jax report Nothing to forget: the probability of the")
    assert "Claims" not in words and "far enough" in words  # kept, that is
    assert "shown within" not in words
    assert {v["badge"] for v in report["verdicts"]} == {"note", "bad"}
    # One target that did learn them is enough for claims.
    learned = never_learned(copy.deepcopy(before))
    learned["models"][0]["metrics"]["forget_Q_A_Prob"] = 0.9
    assert write.complete(learned)["nothing_to_forget"] is None
    assert len(write.complete(learned)["claims"]) == 2


def test_the_console_says_it_in_the_first_line(content, capsys):
    found = write.complete({**never_learned(content), "notes": []})
    execute.show("report.html", found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Nothing to forget: the probability of the right")
    assert "(for the retrained model, which never saw them, 0.003, for the" in lines[0]
    assert [line.partition(".")[0] for line in lines[-2:]] == [
        "OFMU: nothing to forget · kept",
        "Gradient ascent: nothing to forget · lost, model destroyed",
    ]
    assert execute.status(found) == 3


def test_a_target_that_meets_the_forget_target_as_it_is(request_alone):
    still, moved = request_alone["models"][1:]
    for model in (still, moved):
        model["forget_target_met_before"] = True
    request_alone["models"][0]["metrics"]["forget_Q_A_Prob"] = 0.4
    found = write.complete(request_alone)["nothing_to_forget"]
    assert words.nothing(found) == (
        "Nothing to forget: the probability of the right answers to the forget "
        "questions is 0.400 before unlearning (for the retain examples 0.970) and "
        "meets the run's forget target, so the target does not know them. Was "
        "it trained on these rows, and is it the right model?"
    )


def test_verdicts_are_of_one_run(content):
    """Of several reports each run has its own target and reference."""
    other = copy.deepcopy(content)
    for model in other["models"]:
        if model["role"] == "retrained":
            model["metrics"]["forget_Q_A_Prob"] = 0.3
    found = write.merge_reports({"x": content, "y": other})["verdicts"]
    assert [(v["run"], v["method"], v["forgot"]["word"]) for v in found] == [
        ("x", "ofmu", "not enough"),
        ("x", "gradient_ascent", "cannot tell"),
        ("y", "ofmu", "forgot"),
        ("y", "gradient_ascent", "cannot tell"),
    ]


def test_names_of_metrics_by_their_aliases(content):
    models = [
        make_model("target", "target", 0, forget_heldout_Prob=0.9),
        make_model("unlearned", "m", 0, forget_heldout_Prob=0.89),
    ]
    (found,) = outcomes.methods(outcomes.with_verdicts(models))
    assert found["forgot"]["word"] == "not enough"
