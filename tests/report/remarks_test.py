"""What a report says before its numbers."""

import dataclasses
import pathlib

import pytest

from experiments.config.language import Tofu
from experiments.domains.base import Model
from experiments.domains.language.rows import taught
from experiments.domains.verdict import Facts
from experiments.report.remarks import doubts, remarks
from ofmu_jax.evals.evaluation import Evaluation


def model(role, name, retain, utility=0.5, **record):
    metrics = {"retain_Q_A_Prob": retain, "model_utility": utility}
    return Model(
        role, name, 0, None, "", record, pathlib.Path(), None, Evaluation(metrics)
    )


def test_broken_and_unmoved_models_are_named():
    models = [
        model("retrained", "retrained", 0.8),
        model("target", "target", 0.9),
        model("unlearned", "ofmu", 0.089),
        model("unlearned", "npo", 0.091),
        model("unlearned", "grad_diff", 0.9),
    ]
    broken, unmoved = remarks(0.0, models)
    assert broken.startswith("ofmu, seed 0 broke the model: 0.089 is left of a retain")
    assert "grad_diff, seed 0 left the model as it was" in unmoved


def test_a_run_that_broke_off_is_named():
    stopped = "retain_loss is nan at update 2"
    broken = model("unlearned", "npo", 0.9, finite=False, stopped=stopped)
    (note,) = remarks(0.0, [model("target", "target", 0.9), broken])
    assert note == f"npo, seed 0 broke off and is no result: {stopped}."


def test_the_source_of_refusals_is_told(tmp_path):
    run = Tofu(methods=("idk_dpo",), data_dir=tmp_path)
    assert "the 10 refusals that are built in" in taught(run, "idk_dpo")
    (tmp_path / "idontknow.jsonl").write_text("I'm not sure.\nNo idea.\n")
    assert f"the 2 refusals of {tmp_path / 'idontknow.jsonl'}" in taught(run, "idk_dpo")
    other = tmp_path / "no.txt"
    other.write_text("No.")
    run = dataclasses.replace(run, refusals_file=other)
    assert f"idk_dpo teaches the 1 refusals of {other}" in taught(run, "idk_dpo")
    assert taught(run, "altpo") == (
        "altpo teaches answers that the model before unlearning gives when it is asked "
        "the question: of 5 at temperature 1.5 the one least like the right one."
    )


def test_chance_counts_as_nothing_kept():
    """Of ten classes a tenth of the images is right by chance."""
    models = [model("target", "target", 0.9), model("unlearned", "npo", 0.17)]
    (note,) = remarks(0.1, models)
    assert note.startswith("npo, seed 0 broke the model: 0.170 is left")
    assert "of 0.900 (0.100 by chance)" in note
    assert not list(remarks(0.0, models))


def facts(forget, retain, **more):
    return Facts({"forget_Q_A_Prob": forget, "retain_Q_A_Prob": retain}, **more)


@pytest.mark.parametrize(
    ("target", "reference", "expected"),
    [
        (facts(0.9, 0.95), facts(0.1, 0.94), []),
        (facts(0.9, 0.95), None, []),
        # Scored with another tokenizer.
        (facts(0.9, 0.95), facts(0.001, 0.001), ["0.001 on the retain rows"]),
        (facts(0.9, 0.95), facts(0.1, 0.712), ["a poor yardstick"]),
        (facts(0.9, 0.95), facts(0.1, 0.713), []),  # 0.75 of 0.95 is 0.7125
        # Never taught.
        (facts(0.4, 0.95), facts(0.1, 0.95), ["it hardly knows what it is to forget"]),
        (facts(0.2, 0.3), None, ["it may not know what it is to forget"]),
        # Not retrained without them.
        (facts(0.9, 0.95), facts(0.9, 0.95), ["it was trained on them as well"]),
        (facts(0.9, 0.95), facts(0.82, 0.95), ["it was trained on them as well"]),
        (facts(0.9, 0.95), facts(0.8, 0.95), []),  # a ninth is gone
        # The report says that in its first line.
        (facts(0.004, 0.95), facts(0.003, 0.95), []),
        # Images likewise.
        (
            Facts({"forget_accuracy": 0.99, "retain_accuracy": 0.99}, chance=0.1),
            Facts({"forget_accuracy": 0.95, "retain_accuracy": 0.5}),
            ["0.950 on the forget rows", "0.500 on the retain rows"],
        ),
        # From chance 0.29 is left of 0.4.
        (facts(0.9, 0.9, chance=0.5), facts(0.5, 0.79), ["a poor yardstick"]),
    ],
)
def test_yardsticks_that_measure_nothing_are_named(target, reference, expected):
    found = list(doubts(target, reference))
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


def test_a_yardstick_is_named_with_its_seed():
    models = [
        model("retrained", "retrained", 0.5),
        model("target", "target", 0.9),
    ]
    (note,) = remarks(0.0, models)
    assert note.startswith("seed 0: the retrained model has 0.500 on the retain rows")
