"""The first screen: gauges against numbers by hand, answers, evidence."""

import json

import pytest
from reports import ANSWERS, make_model, written

from experiments.report import figures, write
from experiments.report.shown import answers, gauges


def screen(content, folder=None):
    report = write.complete(content)
    if folder is not None:
        report = write.with_records(report, folder)
    return gauges.rows(report, figures.colors(report["summary"]))


def test_gauges_of_a_method(content):
    ofmu, ascent = screen(content)  # the nearest to the retrained model first
    forgot, kept = ofmu["forgot"], ofmu["kept"]
    assert forgot.quantity == "probability of the right answers to the forget questions"
    values = forgot.before, forgot.now, forgot.goal
    assert values == pytest.approx((0.9, 0.2, 0.1))
    # At most 0.1 above the goal, and three quarters of the way from 0.9 to 0.1.
    assert forgot.zone == pytest.approx((0.0, 0.2))
    assert [value for _, value in forgot.seeds] == pytest.approx([0.1, 0.2, 0.3])
    # 0.2 ± t · 0.1 / √3, of which nothing lies below 0.
    assert forgot.interval == pytest.approx((0.0, 0.4484), abs=1e-4)
    assert kept.zone == pytest.approx((0.81, 1.0)) and kept.share == "94% left"
    assert [forgot.at(x) for x in (-0.5, 0.25, 2.0)] == [0.0, 25.0, 100.0]
    assert forgot.text.endswith(": 0.900 before, 0.200 now, retrained 0.100")
    assert ascent["kept"].share == "1% left" and ascent["destroyed"]
    assert ascent["forgot"].zone is None  # a destroyed model has shown nothing
    assert ofmu["colour"] != ascent["colour"]


def test_two_seeds_are_dots_without_an_interval(tmp_path, content):
    content["models"] = [m for m in content["models"] if m["seed"] < 2]
    ofmu, _ = screen(content)
    assert ofmu["forgot"].interval is None and len(ofmu["forgot"].seeds) == 2
    assert ofmu["chips"][0]["text"] == "2 seeds, dots, no interval"
    page = written(tmp_path, content)[1]
    assert page.count('<i class="seed" data-tip="Seed') == 2 * 2 * 2
    # Of two seeds both values; Student's interval would be ±0.635.
    assert '<span class="half">0.100 · 0.200</span>' in page and "±0.6" not in page
    assert "95 % interval</span>" not in page  # of the key


def test_without_target_or_reference_there_is_less(content):
    content["models"] = [make_model("unlearned", "mine", 0, forget_Q_A_Prob=0.25)]
    (row,) = screen(content)
    gauge = row["forgot"]
    assert (gauge.before, gauge.goal, gauge.zone, gauge.share) == (None,) * 3 + ("",)
    assert row["kept"] is None
    assert row["chips"][0]["text"] == "1 seed, no interval"


def test_a_record_that_is_sealed_is_evidence(tmp_path, content):
    for model in content["models"]:
        if model["method"] == "ofmu":
            folder = tmp_path / model["export"]
            folder.mkdir(parents=True)
            record = {"seal": "abc"} if model["seed"] else {}
            (folder / "deletion.json").write_text(json.dumps(record))
    ofmu, ascent = (row["chips"][-1]["text"] for row in screen(content, tmp_path))
    assert (ofmu, ascent) == ("record sealed (2 of 3)", "no record")


def test_what_most_gauges_measure_stands_once(content):
    rows = screen(content)
    assert gauges.heads(rows)["kept"].endswith("to the retain questions")
    assert gauges.heads([]) == {"forgot": "", "kept": ""}


def test_changed_words_are_marked():
    forget, retain = answers.cards(ANSWERS)
    target, retrained, ofmu, ascent = forget["lines"]
    assert forget["known"] and not retain["known"]  # the target says the true answer
    assert target["pieces"] == [("Ada was born in Rome.", False)]
    assert retrained["pieces"] == [("Ada was born in", False), ("Oslo.", True)]
    assert ofmu["pieces"] == [("She", True), ("was", False), ("born.", True)]
    assert ascent["nothing"]
    assert retain["lines"][1]["same"] and retain["true"] == "In Lund."


def test_answers_are_beside_the_gauges(tmp_path, content):
    content["answers"] = ANSWERS
    report, page, parsed = written(tmp_path, content)
    assert report["answers"] == ANSWERS
    assert "<mark>Oslo.</mark>" in page and "<b>Bo" not in page
    assert "the same, word for word" in page and "(nothing)" in page
    # A method is chosen without a script, and its place is that among the buttons.
    assert page.count('type="radio"') == 2 and ".said.m:not(.m1){display:none}" in page
    assert not parsed.open
    write.validate_report(report)
    report["answers"]["rows"][0]["part"] = "other"
    with pytest.raises(ValueError, match=r"answers\.rows.*one of forget, retain"):
        write.validate_report(report)
    content["answers"] = None
    assert "What the models" not in written(tmp_path, content)[1]


def test_pictures_are_inside_the_page(tmp_path, content):
    picture = "data:image/png;base64,aaaa"
    row = {"part": "forget", "picture": picture, "answer": "three"}
    said = {"target": "three 99%", "retrained": "eight 50%", "ofmu": "three 40%"}
    content["answers"] = {"seed": 0, "rows": [row | {"said": said}]}
    page = written(tmp_path, content)[1]
    assert f'<img src="{picture}" alt="An image of three"' in page
    assert "<mark>eight 50%</mark>" in page and "<mark>three" not in page
    content["answers"]["rows"][0]["picture"] = "https://example.org/x.png"
    with pytest.raises(ValueError, match="a PNG as a data: address"):
        write.write_report(tmp_path, content)
