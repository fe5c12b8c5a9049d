"""The schema of a report and its summary over seeds."""

import json
import math
from importlib import resources

import jsonschema
import numpy as np
import pytest
from reports import make_model

from experiments.report import write

# Student-t 97.5 % quantile with 2 degrees of freedom, from a printed table.
T_2 = 4.302653


def test_valid_report_passes(content):
    write.validate_report(content)
    content["something_new"] = {"of": "a later version"}
    content["models"][0]["metrics"]["unheard_of"] = np.float32(0.5)
    write.validate_report(content)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda r: r.pop("title"), "title is missing"),
        (lambda r: r.update(title=" "), "title is ' '"),
        (lambda r: r.update(schema_version=2), "schema_version is 2"),
        (lambda r: r.update(schema_version=True), "schema_version is True"),
        (lambda r: r.update(created="yesterday"), "created is 'yesterday'"),
        (lambda r: r.update(created=20250131), "created is 20250131"),
        (lambda r: r.update(models={}), "models is {}"),
        (lambda r: r["data"]["counts"].update(forget=1.5), "data.counts.forget"),
        (lambda r: r["models"][2].update(role="student"), r"models\[2\].role"),
        (lambda r: r["models"][2].update(seed="0"), r"models\[2\].seed"),
        (
            lambda r: r["models"][1]["metrics"].update(x="high"),
            r"models\[1\].metrics.x is 'high'",
        ),
        (
            lambda r: r["models"][1]["metrics"].update(x=True),
            r"models\[1\].metrics.x is True",
        ),
        (
            lambda r: r["models"][1]["intervals"].update(x=[0.2, 0.1]),
            r"models\[1\].intervals.x",
        ),
        (
            lambda r: r["models"][1]["intervals"].update(x=[0.1]),
            r"models\[1\].intervals.x",
        ),
        (lambda r: r["models"][1].update(peak_bytes=1.5), r"models\[1\].peak_bytes"),
        (lambda r: r["models"][1].update(missing="x"), r"models\[1\].missing is 'x'"),
        (lambda r: r["models"][1].update(export="/elsewhere"), r"models\[1\].export"),
        (lambda r: r["models"][1].update(export="javascript:x"), "relative"),
        (
            lambda r: r["models"][2]["trajectory"][3].pop("step"),
            r"models\[2\].trajectory\[3\].step is missing",
        ),
        (
            lambda r: r["models"][2]["trajectory"][3].update(rho="1"),
            r"models\[2\].trajectory\[3\].rho",
        ),
        (lambda r: r["models"][4].update(seed=0), r"models\[4\] has the role, method"),
        (lambda r: r["claims"][0].update(holds="yes"), r"claims\[0\].holds is 'yes'"),
        (lambda r: r.update(summary=[{}]), r"summary\[0\].method is missing"),
    ],
)
def test_errors_name_the_path(content, change, path):
    change(content)
    with pytest.raises(ValueError, match=path):
        write.validate_report(content)


def test_the_schema_is_one():
    text = resources.files("experiments.report").joinpath("report.schema.json")
    jsonschema.Draft202012Validator.check_schema(json.loads(text.read_text()))


def test_not_an_object():
    with pytest.raises(ValueError, match="report is"):
        write.validate_report([1])


def test_summary_known_on_paper(content):
    rows = write.summarise(content["models"])
    assert [row["method"] for row in rows] == [
        "retrained",
        "target",
        "ofmu",
        "gradient_ascent",
    ]
    stat = rows[2]["metrics"]["forget_Q_A_Prob"]
    # Values 0.1, 0.2, 0.3: standard deviation 0.1, half-width t · 0.1 / √3.
    half = T_2 * 0.1 / math.sqrt(3)
    assert stat["n"] == 3 and rows[2]["seeds"] == 3
    assert stat["mean"] == pytest.approx(0.2)
    assert stat["low"] == pytest.approx(0.2 - half, abs=1e-6)
    assert stat["high"] == pytest.approx(0.2 + half, abs=1e-6)
    assert rows[2]["seconds"]["mean"] == 1.5
    assert rows[2]["compile_seconds"]["mean"] == 0.5
    assert rows[2]["peak_bytes"]["mean"] == 2 * 2**20


def test_summary_of_one_seed_has_no_interval(content):
    (row,) = write.summarise(content["models"][:1])
    stat = row["metrics"]["model_utility"]
    assert stat == {"mean": 0.6, "low": None, "high": None, "n": 1}


def test_summary_leaves_out_what_is_not_finite():
    values = (1.0, math.nan, None, 3.0)
    models = [make_model("unlearned", "m", s, x=v) for s, v in enumerate(values)]
    models.append(make_model("unlearned", "m", 4))
    (row,) = write.summarise(models)
    assert row["seeds"] == 5
    assert row["metrics"]["x"]["n"] == 2 and row["metrics"]["x"]["mean"] == 2.0
    (row,) = write.summarise([make_model("unlearned", "m", 0, x=math.inf)])
    assert row["metrics"]["x"] == {"mean": None, "low": None, "high": None, "n": 0}
