"""One judgement of forgetting and keeping, in every case that a run can end in."""

import math

import pytest

from experiments.domains import verdict
from experiments.domains.base import Model
from experiments.domains.verdict import Facts
from ofmu_jax.evals.evaluation import Evaluation


def model(forget, retain, **more):
    """The numbers of a language model; None: not measured."""
    return Facts({"forget_Q_A_Prob": forget, "retain_Q_A_Prob": retain}, **more)


def images(forget, retain, **more):
    metrics = {"forget_accuracy": forget, "retain_accuracy": retain}
    return Facts(metrics, chance=0.1, **more)


def choices(forget, retain, **more):
    """Multiple choice of four."""
    metrics = {"forget_choice_accuracy": forget, "retain_choice_accuracy": retain}
    chance = {"forget_choice_chance": 0.25, "retain_choice_chance": 0.25}
    return Facts(metrics | chance, **more)


TARGET, REFERENCE = model(0.968, 0.97), model(0.1, 0.96)
CHOSEN, GUESSED = choices(0.9, 0.9), choices(0.3, 0.3)
SEEN, UNSEEN = images(0.99, 0.99), images(0.0, 0.98)
CASES = {
    # Of choices chance is the goal where there is no retrained model: 0.25, and what is
    # left is counted from it: 0.55 of 0.65, 0.63 of 0.65.
    "guesses what was to be forgotten": (
        (choices(0.34, 0.88, met=True), CHOSEN, None),
        ("forgot", "kept", "good", False),
    ),
    "still chooses right": (
        (choices(0.42, 0.88, met=True), CHOSEN, None),
        ("not enough", "kept", "bad", True),
    ),
    "chooses wrong what was to stay": (
        (choices(0.3, 0.8, met=True), CHOSEN, None),
        ("forgot", "lost", "bad", False),
    ),
    "guesses as the retrained model does": (
        (choices(0.55, 0.9), CHOSEN, choices(0.5, 0.9)),
        ("forgot", "kept", "good", False),
    ),
    "guessed before": (
        (choices(0.2, 0.1), GUESSED, None),
        ("cannot tell", "cannot tell", "note", False),
    ),
    # Without a retrained model the run's own forget target decides.
    "nothing moved": (
        (model(0.965, 0.97, met=False), TARGET, None),
        ("not enough", "kept", "bad", True),
    ),
    "target met": (
        (model(0.238, 0.96, met=True), TARGET, None),
        ("forgot", "kept", "good", False),
    ),
    "target met, and what was to stay is lost": (
        (model(0.238, 0.8, met=True), TARGET, None),
        ("forgot", "lost", "bad", False),
    ),
    "fell, but not to the target": (
        (model(0.5, 0.97, met=False), TARGET, None),
        ("not enough", "kept", "bad", True),
    ),
    "a target that asks for nothing": (
        (model(0.96, 0.97, met=True), TARGET, None),
        ("not enough", "kept", "bad", True),
    ),
    "fell, and nobody says how far": (
        (model(0.5, 0.97), TARGET, None),
        ("cannot tell", "kept", "note", False),
    ),
    # With one its value decides: 0.1 above it, and three quarters of the way.
    "like the retrained model": (
        (model(0.199, 0.97, met=False), TARGET, REFERENCE),
        ("forgot", "kept", "good", False),
    ),
    "further than the retrained model": (
        (model(0.0, 0.9, met=True), TARGET, REFERENCE),
        ("forgot", "kept", "good", False),
    ),
    "not as far": (
        (model(0.201, 0.97, met=True), TARGET, REFERENCE),
        ("not enough", "kept", "bad", True),
    ),
    "near, as the target was": (  # 0.05 away; three quarters are 0.1125
        (model(0.15, 0.97), model(0.15, 0.97), model(0.1, 0.97)),
        ("not enough", "kept", "bad", True),
    ),
    "a retrained model that knows them": (
        (model(0.3, 0.97, met=True), TARGET, model(0.95, 0.97)),
        ("cannot tell", "kept", "note", False),
    ),
    # Nothing to forget.
    "never learned": (
        (model(0.003, 0.9), model(0.004, 0.95), None),
        ("nothing to forget", "kept", "note", True),
    ),
    "never learned, as the retrained model shows": (
        (model(0.2, 0.9), model(0.3, 0.95), model(0.29, 0.95)),
        ("nothing to forget", "kept", "note", True),
    ),
    "never learned, as the forget target shows": (
        (model(0.2, 0.3, met=True, met_before=True), model(0.2, 0.3), None),
        ("nothing to forget", "kept", "note", True),
    ),
    "known far less than what is kept": (
        (model(0.1, 0.95, met=True), model(0.2, 0.95), None),
        ("nothing to forget", "kept", "note", True),
    ),
    # A model that is no result.
    "destroyed": (
        (model(0.0, 0.09, met=True), TARGET, REFERENCE),
        ("cannot tell", "lost", "bad", True),
    ),
    "broke off": (
        (model(0.1, 0.97, finite=False), TARGET, REFERENCE),
        ("cannot tell", "kept", "note", True),
    ),
    "broke off at once": (
        (model(0.968, 0.97, finite=False), TARGET, REFERENCE),
        ("not enough", "kept", "bad", True),
    ),
    "not measured": (
        (model(None, None), TARGET, REFERENCE),
        ("cannot tell", "cannot tell", "note", False),
    ),
    "no target": (
        (model(0.1, 0.9), None, REFERENCE),
        ("forgot", "cannot tell", "note", False),
    ),
    # Images: what is left is counted from chance, here 0.1.
    "a class": ((images(0.05, 0.97), SEEN, UNSEEN), ("forgot", "kept", "good", False)),
    "a class, still seen": (
        (images(0.98, 0.99), SEEN, UNSEEN),
        ("not enough", "kept", "bad", True),
    ),
    "0.9 of 0.99, but 0.89 from chance": (
        (images(0.05, 0.892), SEEN, UNSEEN),
        ("forgot", "lost", "bad", False),
    ),
    "guesses": (
        (images(0.0, 0.18), SEEN, UNSEEN),
        ("cannot tell", "lost", "bad", True),
    ),
    "a class that it never saw": (
        (images(0.0, 0.97), images(0.11, 0.98), UNSEEN),
        ("nothing to forget", "kept", "note", True),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_verdict(name):
    given, expected = CASES[name]
    found = verdict.verdict(*given)
    assert (
        found.forgot.word,
        found.kept.word,
        found.badge,
        found.failed,
    ) == expected


def test_the_worst_metric_decides():
    """Forgotten as it was trained, and known in other words."""
    both = lambda trained, other: Facts(
        {
            "forget_Q_A_Prob": trained,
            "forget_heldout_Q_A_Prob": other,
            "retain_Q_A_Prob": 0.9,
            "retain_heldout_Q_A_Prob": other,
        }
    )
    found = verdict.verdict(both(0.1, 0.6), both(0.9, 0.8), both(0.1, 0.1))
    assert found.forgot == ("not enough", "forget_heldout_Q_A_Prob", "")
    assert found.kept == ("lost", "retain_heldout_Q_A_Prob", "")  # 0.6 of 0.8


def trained(update, goal, **record):
    checks = [
        {"update": 0, "forget_nll": 0.1},
        {"update": 3, "forget_nll": 2.0},
        {"update": 6, "forget_nll": 1.0},
    ]
    record |= {"update": update, "forget_target": goal, "checks": checks}
    return Model("unlearned", "m", 0, None, "", record, None, None, Evaluation({}))


@pytest.mark.parametrize(
    ("update", "goal", "met", "before"),
    [
        (3, 2.0, True, False),
        (6, 2.0, False, False),
        (6, 0.1, True, True),
        (6, None, None, None),
        (4, 2.0, None, False),
    ],
)
def test_the_forget_target_is_that_of_what_was_returned(update, goal, met, before):
    found = verdict.facts(trained(update, goal), 0.0)
    assert (found.met, found.met_before, found.finite) == (met, before, True)


def test_a_check_that_is_not_finite_meets_nothing():
    broken = trained(6, 1.0, finite=False)
    broken.record["checks"][-1]["forget_nll"] = math.nan
    found = verdict.facts(broken, 0.0)
    assert (found.met, found.finite) == (False, False)
