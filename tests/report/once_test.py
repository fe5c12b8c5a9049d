"""What a page says, it says once, and in names and values that make sense."""

import pytest
from reports import make_model, written

from experiments.report.shown import cells, notes, panels


def test_notes_of_several_seeds_are_one():
    models = [{"method": "ssd"}, {"method": "ofmu"}]
    said = [
        "Two seeds.",
        "ssd, seed 0 broke the model.",
        "ofmu, seed 1 broke the model.",
        "ssd, seed 2 broke the model.",
        "other, seed 2 is no method of it.",
    ]
    assert notes.notes({"models": models, "notes": said}) == [
        "Two seeds.",
        "SSD, seeds 0, 2 broke the model.",
        "OFMU, seed 1 broke the model.",
        "other, seed 2 is no method of it.",
    ]
    compared = {"models": models, "notes": ["a/b: ssd, seed 0 broke the model."]}
    assert notes.notes(compared) == ["a/b: SSD, seed 0 broke the model."]


def test_an_attack_that_no_model_had_is_named_once():
    why = {"attack": "lens", "why": "it needs rows"}
    runs = ("retrained, seed 0", "ofmu, seed 0", "ofmu, seed 1, second")
    missing = [*({**why, "model": model} for model in runs)]
    missing.append({"attack": "all", "why": "run without --attacks", "model": "first"})
    assert notes.not_run(missing, {"lens": {"title": "Logit lens"}}) == [
        "Logit lens: it needs rows (Retrained (goal), seed 0; OFMU, seed 0; OFMU, "
        "second, seed 1)",
        "All attacks: run without --attacks (first)",
    ]


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ((0.0, 0.0, 1.0), "0.000 · 0.000 · 1.000"),  # ±1.434 says nothing of a share
        ((0.0, 0.0, 1.0, 1.0), "0.000 to 1.000"),  # ±0.919
        ((0.4, 0.5, 0.6), "±0.248"),  # 4.303 · 0.1 / √3
    ],
)
def test_intervals_wider_than_what_can_be_are_the_seeds(content, values, spread):
    from experiments.report.write import summarise

    models = [
        make_model("unlearned", "ofmu", seed, forget_Q_A_Prob=value)
        for seed, value in enumerate(values)
    ]
    report = {"models": models, "summary": summarise(models)}
    (row,) = report["summary"]
    assert cells.stat(row, "forget_Q_A_Prob", report)["spread"] == spread


def test_a_retrained_model_is_compared_with_itself_in_nothing(tmp_path, content):
    for model in content["models"]:
        if model["role"] == "retrained":
            model["missing"] = ["forget_quality_ks: no reference", "x: no rows"]
        if model["method"] == "ofmu":
            model["missing"] = ["x: no rows"]
    text = " ".join(" ".join(written(tmp_path, content)[2].text).split())
    assert "no reference" not in text and "no rows" in text


def test_a_log_axis_within_1_2_and_5_has_ticks_too():
    axis = panels.axis_of([80.0, 160.0], 0, 100, panels.WHOLE, log=True)
    assert len(axis.ticks) >= 2 and 100.0 in axis.ticks
