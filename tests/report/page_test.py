"""The page of a report: what it says, and that it loads nothing."""

import math
import pathlib
import re

import pytest
from reports import SCRIPT, make_model, written

from experiments.report import glossary, page, write
from experiments.report import words as page_words
from experiments.report.shown import cells
from ofmu_jax.attacks import recovery


def test_page_is_whole_and_loads_nothing(tmp_path, content):
    _, text, parsed = written(tmp_path, content)
    assert not parsed.open  # every element is closed
    words = " ".join(parsed.text)
    for row in write.summarise(content["models"]):
        assert glossary.method_label(row) in words
        assert f"{row['method']}/seed2" in words
    assert "http:" not in text and "https:" not in text
    assert not {"link", "img", "iframe", "image"} & set(parsed.tags)
    assert parsed.tags.count("script") == 1  # its own, inside it
    exports = {m["export"] for m in content["models"]}
    outside = {link for link in parsed.links if not link.startswith("#")}
    assert outside == exports
    assert not re.findall(r"@import|url\((?!#)", text)
    # Every reference inside the plots has its one target.
    assert len(parsed.ids) == len(set(parsed.ids))
    inside = {link[1:] for link in parsed.links if link.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert inside <= set(parsed.ids)
    assert "currentColor" in text and "prefers-color-scheme: dark" in text


def test_no_report_says_more_than_can_be_shown():
    """No attack that fails shows that nothing is left: nowhere is that claimed."""
    code = pathlib.Path(page.__file__).parents[1]
    folders = ("report", "domains", "deletion", "sequence")
    files = [path for name in folders for path in (code / name).rglob("*.*")]
    texts = {path: path.read_text() for path in files if path.suffix != ".pyc"}
    assert [path for path, text in texts.items() if "removed" in text.lower()] == []
    assert recovery.BEST == "no recovery under these attacks at this budget"


def test_headline_says_what_was_forgotten_and_kept(tmp_path, content):
    _, text, parsed = written(tmp_path, content)
    words = " ".join(" ".join(parsed.text).split())
    assert "4 examples had to be forgotten, 36 had to be kept." in words
    assert "2 methods unlearned in 6 runs. 0 of 2 methods forgot." in words
    assert "fell from 0.900 to 0.200; the retrained model, which never saw" in words
    assert "of the way." in words
    assert "is 0.850, 94% of the target's 0.900" in words
    assert text.count("model destroyed") == 1  # gradient ascent
    spent = '<td data-v="1.5">1.5 s<span class="half">(0.5 s compiling)</span></td>'
    assert text.count(spent) == 4
    # Mean of 1, 2 and 3 MiB a step, of four models.
    assert text.count("<td>2.000</td></tr>") == 4
    # Names of metrics and methods that people do not read are in tooltips alone.
    seen = re.sub(r"\S*/seed\S*|ofmu_jax", "", words)  # folders
    assert not re.findall(r"\S*[a-z]_[A-Za-z]\S*", seen)


def test_user_text_is_escaped(tmp_path, content):
    content["title"] = content["command"] = content["data"]["name"] = SCRIPT
    content["recipe"][SCRIPT] = content["environment"]["x"] = SCRIPT
    content["claims"].append({"text": SCRIPT, "holds": True, "evidence": SCRIPT})
    content["notes"] = [SCRIPT]
    for model in content["models"]:
        if model["role"] == "unlearned":
            model["method"] += f" $x$ {SCRIPT}"
        model["stopped"] = model["export"] = SCRIPT
        model["missing"] = [f"{SCRIPT}: {SCRIPT}"]
        model["notes"] = [SCRIPT]
        model["metrics"][SCRIPT] = math.nan if model["seed"] else 1.0
    _, text, parsed = written(tmp_path, content)
    assert text.lower().count("<script") == parsed.tags.count("script") == 1
    assert not parsed.open
    assert SCRIPT in "".join(parsed.text)


def test_page_names_what_is_missing(tmp_path, content):
    for model in content["models"]:
        model["missing"] = ["mia_loss: no hold-out rows", "mia_zlib: no hold-out rows"]
    content["models"][0]["notes"] = ["privleak: against chance"]
    words = " ".join(" ".join(written(tmp_path, content)[2].text).split())
    assert "MIA loss, MIA zlib : no hold-out rows (all models)" in words
    assert "privleak : against chance (Target (before), seed 0)" in words


def test_page_without_reference_or_metrics(tmp_path, content):
    content["models"] = [make_model("unlearned", "mine", 0, my_score=0.5)]
    content["models"][0]["trajectory"] = []
    content["claims"] = []
    words = " ".join(" ".join(written(tmp_path, content)[2].text).split())
    assert "no retrained reference" in words and "mine" in words
    assert "cannot tell · cannot tell" in words
    assert "Cannot tell (forgetting was not measured)." in words
    assert "my score" in words and "Keeping was not measured." in words
    # Nothing is said of what is not there.
    assert not re.search("Claims|What is missing|Over the run", words)
    content["models"] = []
    written(tmp_path, content)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (0.3, "That is 75% of the way."),  # (0.9 − 0.3) / (0.9 − 0.1)
        (0.05, "That is 0.050 below it."),
        (0.95, "did not fall: it went from 0.900 to 0.950"),
    ],
)
def test_how_much_was_forgotten(ours, expected):
    assert expected in page_words._forgot("forget_Q_A_Prob", ours, 0.9, 0.1)


def test_best_is_nearest_to_the_goal(content):
    models = [
        make_model("retrained", "retrained", 0, forget_Q_A_Prob=0.2, privleak=0.0),
        make_model("unlearned", "near", 0, forget_Q_A_Prob=0.25, privleak=-5.0),
        make_model("unlearned", "far", 0, forget_Q_A_Prob=0.0, privleak=9.0),
    ]
    rows = write.summarise(models)
    report = {"summary": rows, "models": models}
    best = {
        (row["method"], name)
        for row in rows
        for name in ("forget_Q_A_Prob", "privleak")
        if cells.stat(row, name, report)["best"]
    }
    assert best == {("near", "forget_Q_A_Prob"), ("near", "privleak")}
