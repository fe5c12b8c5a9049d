"""Report: schema, summary, page, plots and tables, on reports written by hand."""

import copy
import html.parser
import io
import json
import math
import platform
import re

import numpy as np
import pytest
from rich.console import Console

from experiments.report import content as findings
from experiments.report import (
    figures,
    glossary,
    page,
    summary,
    summary_figures,
    tables,
    write,
)
from experiments.report import words as page_words
from experiments.report.gaps import with_gaps

SCRIPT = "<script>alert('x')</script>"
# Student-t 97.5 % quantile with 2 degrees of freedom, from a printed table.
T_2 = 4.302653


def make_model(role, method, seed, **metrics):
    trajectory = []
    if role == "unlearned":
        for step in range(5):
            row = {"step": step, "gradient_evaluations": 2.0 * step}
            row |= {"forget_loss": 0.5 * step, "retain_loss": 0.1, "cosine": -0.2}
            if step % 2 == 0:
                row |= {"eval_forget_prob": 0.9 - 0.1 * step, "eval_retain_prob": 0.9}
            if method == "ofmu":
                row |= {"phi_grad_norm": 10.0**-step, "rho": 0.01}
            trajectory.append(row)
    return {
        "role": role,
        "method": method,
        "seed": seed,
        "metrics": metrics,
        "intervals": {},
        "missing": [],
        "seconds": 1.5,
        "gradient_evaluations": 8.0,
        "peak_bytes": (seed + 1) * 2**20,
        "outer_steps": 4,
        "stopped": "budget used up",
        "export": f"{method}/seed{seed}/hf",
        "trajectory": trajectory,
    }


def numbers(forget, retain, utility):
    return {
        "forget_Q_A_Prob": forget,
        "retain_Q_A_Prob": retain,
        "model_utility": utility,
    }


@pytest.fixture
def content():
    models = []
    for seed, shift in enumerate((-0.1, 0.0, 0.1)):
        models += [
            make_model("target", "target", seed, **numbers(0.9, 0.9, 0.6)),
            make_model("retrained", "retrained", seed, **numbers(0.1, 0.9, 0.6)),
            make_model("unlearned", "ofmu", seed, **numbers(0.2 + shift, 0.85, 0.5)),
            make_model("unlearned", "gradient_ascent", seed, **numbers(0.0, 0.01, 0.1)),
        ]
    return {
        "schema_version": 1,
        "title": "A run",
        "created": "2025-01-31T12:00:00+00:00",
        "command": "python -m experiments.run",
        "recipe": {"seeds": [0, 1, 2]},
        "environment": {"jax": "0.10.2"},
        "data": {"name": "people", "counts": {"forget": 4, "retain": 36}},
        "models": models,
        "claims": [
            {"method": "ofmu", "text": "it keeps", "holds": True, "evidence": ".85"},
            {"text": "it forgets", "holds": False, "evidence": "0.2"},
        ],
    }


class Page(html.parser.HTMLParser):
    """Collects tags, text and everything a browser would load or go to."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.links, self.open = [], [], [], []
        self.ids = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "srcset", "action"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def written(folder, content):
    json_path, html_path = write.write_report(folder, content)
    text = html_path.read_text(encoding="utf-8")
    return json.loads(json_path.read_text()), text, Page(text)


# Schema


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


def test_not_an_object():
    with pytest.raises(ValueError, match="report is"):
        write.validate_report([1])


# Summary


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


# Files


def test_write_report(tmp_path, content):
    before = copy.deepcopy(content)
    data, text, _ = written(tmp_path / "new", content)
    assert content == before
    write.validate_report(data)
    assert data["summary"] == write.summarise(with_gaps(content["models"]))
    assert data["not_finite"] == []
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "report.html",
        "report.json",
    ]
    # The same content, read back, gives the same page.
    assert write.write_report(tmp_path / "again", data)[1].read_text() == text


def test_a_bad_report_leaves_the_old_files(tmp_path, content):
    paths = write.write_report(tmp_path, content)
    old = [path.read_bytes() for path in paths]
    content["models"][0]["metrics"]["x"] = "high"
    with pytest.raises(ValueError, match=r"metrics\.x"):
        write.write_report(tmp_path, content)
    assert [path.read_bytes() for path in paths] == old


def test_not_finite_values_are_null_and_named(tmp_path, content):
    model = content["models"][2]
    model["metrics"]["privleak"] = math.nan
    model["metrics"]["model_utility"] = np.float32(np.inf)
    model["intervals"]["privleak"] = (math.nan, 1.0)
    model["trajectory"][1]["forget_loss"] = -math.inf
    data, text, _ = written(tmp_path, content)
    assert data["models"][2]["metrics"]["privleak"] is None
    assert data["not_finite"] == [
        "models[2].intervals.privleak[0]",
        "models[2].metrics.model_utility",
        "models[2].metrics.privleak",
        "models[2].trajectory[1].forget_loss",
    ]
    assert "models[2].metrics.privleak" in text and "(2 of 3 seeds)" in text


def test_unserialisable_values_are_refused(content):
    content["recipe"]["loss"] = object()
    with pytest.raises(ValueError, match=r"recipe.loss is <object"):
        write.complete(content)


def test_trajectory_in_a_file(tmp_path, content):
    expected = written(tmp_path / "inline", content)[1]
    for model in content["models"]:
        rows, name = model["trajectory"], f"{model['method']}{model['seed']}.jsonl"
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        model["trajectory"] = name
    data, text, _ = written(tmp_path, content)
    assert data["models"][0]["trajectory"] == "target0.jsonl"
    assert text == expected
    (tmp_path / "ofmu1.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"models\[6\].trajectory names .*ofmu1"):
        write.write_report(tmp_path, content)


# Page


def test_page_is_whole_and_loads_nothing(tmp_path, content):
    _, text, parsed = written(tmp_path, content)
    assert not parsed.open  # every element is closed
    words = " ".join(parsed.text)
    for row in write.summarise(content["models"]):
        assert glossary.method_label(row) in words
        assert f"{row['method']}/seed2" in words
    assert "http:" not in text and "https:" not in text
    assert not {"script", "link", "img", "iframe", "image"} & set(parsed.tags)
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


def test_headline_says_what_was_forgotten_and_kept(tmp_path, content):
    _, text, parsed = written(tmp_path, content)
    words = " ".join(" ".join(parsed.text).split())
    assert "4 examples of people had to be forgotten, 36 had to be kept." in words
    assert "2 methods unlearned in 6 runs. 1 of 2 claims holds." in words
    assert "fell from 0.900 to 0.200; the retrained model, which never saw" in words
    assert "of the way." in words
    assert "is 0.850, 94% of the target's 0.900" in words
    assert text.count("model destroyed") == 1  # gradient ascent
    # Mean of 1, 2 and 3 MiB a step: four models, and the two methods compared.
    assert text.count("<td>2.000</td></tr>") == 4 + 2


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
    assert "<script" not in text.lower()
    assert "script" not in parsed.tags and not parsed.open
    assert SCRIPT in "".join(parsed.text)


def test_page_names_what_is_missing(tmp_path, content):
    for model in content["models"]:
        model["missing"] = ["mia_loss: no hold-out rows", "mia_zlib: no hold-out rows"]
    content["models"][0]["notes"] = ["privleak: against chance"]
    words = " ".join(" ".join(written(tmp_path, content)[2].text).split())
    assert "mia_loss, mia_zlib : no hold-out rows (all models)" in words
    assert "privleak : against chance (Target (before), seed 0)" in words


def test_page_without_reference_or_metrics(tmp_path, content):
    content["models"] = [make_model("unlearned", "mine", 0, my_score=0.5)]
    content["models"][0]["trajectory"] = []
    content["claims"] = []
    words = " ".join(" ".join(written(tmp_path, content)[2].text).split())
    assert "no retrained reference" in words and "mine" in words
    assert "Neither forgetting nor keeping was measured." in words
    assert "my score" in words and "states no claims" in words
    assert "Not drawn, because no model has the values: forgetting and" in words
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
    best = {
        (row["method"], name)
        for row in rows
        for name in ("forget_Q_A_Prob", "privleak")
        if page._stat(row, name, rows)["best"]
    }
    assert best == {("near", "forget_Q_A_Prob"), ("near", "privleak")}


# Command line


def test_command_line_renders_again(tmp_path, content, capsys):
    path = write.write_report(tmp_path, content)[1]
    page_text = path.read_text()
    path.unlink()
    assert write.main([str(tmp_path)]) == 0
    assert path.read_text() == page_text
    assert capsys.readouterr().out.strip() == str(path)


def test_command_line_compares(tmp_path, content):
    a, b = tmp_path / "a" / "out", tmp_path / "b" / "out"
    write.write_report(a, content)
    write.write_report(b, content)
    assert write.main([str(a), "--compare", str(b)]) == 0
    parsed = Page((a / "comparison.html").read_text())
    words = " ".join(parsed.text)
    assert "OFMU · a/out" in words and "OFMU · b/out" in words
    assert "../../b/out/ofmu/seed0/hf" in parsed.links
    assert "ofmu/seed0/hf" in parsed.links
    assert not parsed.open


def test_comparison_of_different_data_says_so(content):
    other = copy.deepcopy(content)
    other["data"]["name"] = "cities"
    merged = write.merge_reports({"x": content, "y": other})
    assert "differ in their data" in merged["notes"][0]
    assert len(merged["models"]) == 24 and len(merged["summary"]) == 8
    assert merged["claims"][2]["text"] == "y: it keeps"


def test_command_line_errors(tmp_path, content, capsys):
    assert write.main([str(tmp_path)]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("{}")
    assert write.main([str(tmp_path)]) == 2
    assert "is not a report: schema_version" in capsys.readouterr().err
    write.write_report(tmp_path, content)
    assert write.main([str(tmp_path), "--compare", str(tmp_path)]) == 2
    assert "names a folder twice" in capsys.readouterr().err


# Tables


def printed(table, width=100):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_console_table(content):
    text = printed(tables.console_table(content))
    assert "OFMU" in text and "Retrained (goal)" in text and "…" not in text
    assert "0.200" in text and "±0.248" in text  # t · 0.1 / √3
    assert text.index("Retrained") < text.index("Target") < text.index("OFMU")
    assert "memory" in text and text.count("2.000") == 4  # MiB, mean of 1, 2 and 3
    for model in content["models"]:
        model["peak_bytes"] = None
    assert "memory" not in printed(tables.console_table(content))


def test_console_table_fits(content):
    for index, model in enumerate(content["models"]):
        for name in summary.CORE:
            model["metrics"][name] = 1234.5678 * (index + 1)
    for width in (60, 80, 100):
        text = printed(tables.console_table(content, width), width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text


def test_tables_with_missing_metrics(content):
    del content["models"][2]["metrics"]["model_utility"]
    for model in content["models"]:
        if model["role"] == "retrained":
            model["metrics"] = {}
    text = printed(tables.console_table(content))
    assert summary.DASH in text
    lines = tables.markdown_table(content).splitlines()
    assert lines[2] == "| Retrained (goal) | 3 | — | — | — |"
    assert lines[4].startswith("| OFMU | 3 | 0.200 ±0.248 | 0.850 ±0.000 |")
    assert len({line.count("|") for line in lines}) == 1


def test_tables_of_unknown_metrics_and_markup():
    model = make_model("unlearned", "a|b [red]", 0, my_score=0.5)
    content = {"title": "[bold]x", "models": [model]}
    text = printed(tables.console_table(content))
    assert "a|b [red]" in text and "[bold]x" in text and "0.500" in text
    text = tables.markdown_table(content, ["my_score", "absent"])
    assert text.endswith("| a\\|b [red] | 1 | 0.500 | — |\n")


# Plots


@pytest.fixture
def rows(content):
    return write.summarise(content["models"])


def lines(axes, gid=None):
    """Lines of one gid; without it, all but the levels of target and reference."""
    if gid is not None:
        return [line for line in axes.lines if line.get_gid() == gid]
    return [x for x in axes.lines if x.get_gid() not in ("reference", "target")]


def test_trajectories(content, rows):
    forget, retain = figures.trajectory_figure(content["models"], rows).axes
    assert len(lines(forget)) == len(lines(retain)) == 6  # two methods, three seeds
    assert lines(forget, "reference")[0].get_ydata()[0] == pytest.approx(0.1)
    assert lines(forget, "target")[0].get_ydata()[0] == pytest.approx(0.9)
    np.testing.assert_allclose(lines(forget)[0].get_xdata(), [0, 4, 8])
    np.testing.assert_allclose(lines(forget)[0].get_ydata(), [0.9, 0.7, 0.5])
    content["models"][2]["trajectory"] = []
    assert len(lines(figures.loss_figure(content["models"]).axes[0])) == 5


def test_cosine_and_penalty(content):
    (axes,) = figures.cosine_figure(content["models"]).axes
    assert len(lines(axes)) == 6 + 1 and len(lines(axes, "zero")) == 1
    norm, rho = figures.penalty_figure(content["models"]).axes
    assert len(lines(norm)) == len(lines(rho)) == 3  # OFMU alone
    assert norm.get_yscale() == rho.get_yscale() == "log"
    for model in content["models"]:
        for row in model["trajectory"]:
            row.pop("phi_grad_norm", None)
            row.pop("cosine", None)
    assert figures.penalty_figure(content["models"]) is None
    assert figures.cosine_figure(content["models"]) is None


def test_a_penalty_of_zero_has_a_plot(content):
    for model in content["models"]:
        for row in model["trajectory"]:
            if "rho" in row:
                row["rho"] = 0.0
    figure = figures.penalty_figure(content["models"])
    assert figure.axes[1].get_yscale() == "linear"
    assert "$" not in figures.to_svg(figure, "penalty")  # no raw math text
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert {"0.01", "1"} <= set(labels)


def test_long_curves_are_smoothed(content):
    rows = [
        {"step": i, "gradient_evaluations": i, "forget_loss": float(i % 2)}
        for i in range(100)
    ]
    content["models"][2]["trajectory"] = rows
    (axes,) = figures.loss_figure(content["models"][2:3]).axes
    assert len(axes.lines) == 2 and len(lines(axes, "raw")) == 1
    assert np.ptp(axes.lines[1].get_ydata()[5:-5]) < 0.3


def test_smoothing_keeps_a_straight_line():
    values = 2.0 * np.arange(100)
    np.testing.assert_allclose(figures._smooth(values)[2:-2], values[2:-2])


def test_tradeoff(content, rows):
    assert summary_figures.tradeoff_figure(content["models"], rows) is None  # no gaps
    models = with_gaps(content["models"])
    figure = summary_figures.tradeoff_figure(models, write.summarise(models))
    (axes,) = figure.axes
    assert len(axes.containers) == 4  # a point with error bars per method
    assert len(lines(axes, "run")) == 6
    assert summary_figures.tradeoff_figure([], []) is None


def test_bars(content, rows):
    axes = summary_figures.bar_figure(rows).axes
    drawn = [a for a in axes if a.axison]
    assert len(drawn) == 3
    assert [len(a.patches) for a in drawn] == [4, 4, 4]
    widths = [patch.get_width() for patch in drawn[0].patches]
    np.testing.assert_allclose(widths, [0.1, 0.9, 0.2, 0.0], atol=1e-12)
    assert len(lines(drawn[0], "reference")) == 1
    assert summary_figures.bar_figure(rows, ["absent"]) is None


# Glossary


def test_aliases_stand_for_the_same_metric():
    assert glossary.metric("forget_quality_D").label == "forget quality D"
    present = ["forget_heldout_Prob", "forget_Q_A_Prob"]
    assert glossary.first_present(glossary.FORGET, present) == "forget_heldout_Prob"
    names = ["zebra", "mia_loss_auc", "forget_Q_A_Prob"]
    assert glossary.ordered(names) == ["forget_Q_A_Prob", "mia_loss_auc", "zebra"]


def test_goals_of_the_image_metrics():
    goals = {
        "average_gap": "lower",
        "forget_js_divergence": "lower",
        "run_time_minutes": "lower",
        "mia_confidence_gap": "lower",
        "unlearning_accuracy": "reference",
        "zrf": "reference",
        **{
            f"mia_{name}": "reference"
            for name in (
                "confidence",
                "correctness",
                "entropy",
                "modified_entropy",
                "probability",
            )
        },
    }
    assert {name: glossary.metric(name).goal for name in goals} == goals
    assert glossary.metric("forget_js_divergence").label == "forget JS divergence"


def test_processor(tmp_path):
    path = tmp_path / "cpuinfo"
    assert findings.processor(path) == platform.machine()
    path.write_text("processor : 0\nmodel name\t: A processor @ 2 GHz\nmodel name : B")
    assert findings.processor(path) == "A processor @ 2 GHz"
    path.write_text(
        "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: A\nstepping\t: 1\n"
        "processor\t: 1\nmodel\t\t: 18\n"
    )
    assert findings.processor(path) == "A, family 25, model 17, stepping 1"
