"""Methods against each other: gaps, ranks, Pareto front, equivalence; on paper."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from experiments.report import (
    comparison,
    figures,
    ranking,
    summary,
    tables,
    write,
)
from experiments.report import gaps as aggregate
from experiments.report.shown import curves
from ofmu_jax.evals.language.comparison import PAIRED


def model(role, method, seed, forget, utility, **more):
    metrics = {"forget_Q_A_Prob": forget, "model_utility": utility}
    return {"role": role, "method": method, "seed": seed, "metrics": metrics | more}


def numbers(models, name):
    return [m["metrics"].get(name) for m in models]


@pytest.fixture
def models():
    """Overall gaps of seed 0: a .1, b .2, c .6; of seed 1: a .3, b .2, c .4."""
    return [
        model("target", "target", 0, 0.9, 0.6),
        model("retrained", "retrained", 0, 0.1, 0.6),
        model("unlearned", "a", 0, 0.2, 0.6),
        model("unlearned", "b", 0, 0.1, 0.4),
        model("unlearned", "c", 0, 0.6, 0.5),
        model("unlearned", "a", 1, 0.4, 0.7),  # more utility earns nothing
        model("unlearned", "b", 1, 0.1, 0.4),
        model("unlearned", "c", 1, 0.0, 0.3),  # forgot too much
    ]


@pytest.fixture
def content(models):
    for row in models:
        row |= {"seconds": 61.0, "gradient_evaluations": 600.0, "peak_bytes": 2**20}
    return {
        "schema_version": 1,
        "title": "A comparison",
        "created": "2025-01-31T12:00:00+00:00",
        "command": "python -m experiments.run",
        "recipe": {},
        "environment": {},
        "data": {"name": "people", "counts": {}},
        "models": models,
        "claims": [],
    }


def test_gaps(models):
    found = aggregate.with_gaps(models)
    np.testing.assert_allclose(
        numbers(found[2:], "forget_gap"), [0.1, 0, 0.5, 0.3, 0, 0.1]
    )
    np.testing.assert_allclose(
        numbers(found[2:], "overall_gap"), [0.1, 0.2, 0.6, 0.3, 0.2, 0.4]
    )
    assert "overall_gap" not in found[1]["metrics"]  # the reference itself
    assert "overall_gap" not in models[2]["metrics"]  # the input stays as it was
    assert aggregate.with_gaps(found) == found


def test_gaps_need_a_reference_of_the_seed(models):
    other = model("retrained", "retrained", 1, 0.3, 0.7)
    found = aggregate.with_gaps([*models, other])
    np.testing.assert_allclose(numbers(found[5:6], "overall_gap"), [0.1])
    models[1]["seed"], other["seed"] = 7, 8
    assert "forget_gap" not in aggregate.with_gaps([*models, other])[2]["metrics"]
    del models[1]
    assert "forget_gap" not in aggregate.with_gaps(models)[1]["metrics"]
    assert aggregate.with_gaps([]) == []


def test_a_destroyed_model_does_not_pass_where_the_utility_of_all_is_0(models):
    for row, retain in zip(
        models, (0.9, 0.8, 0.7, 0.0, 0.8, 0.8, 0.9, 0.8), strict=True
    ):
        row["metrics"] |= {"model_utility": 0.0, "retain_Q_A_Prob": retain}
    found = aggregate.with_gaps(models)[2:]
    gaps = [0.1 + 0.1, 0 + 0.8, 0.5, 0.3, 0, 0.1]
    np.testing.assert_allclose(numbers(found, "overall_gap"), gaps)
    del models[3]["metrics"]["model_utility"]  # then it does not count for any
    np.testing.assert_allclose(
        numbers(aggregate.with_gaps(models)[2:], "overall_gap"), gaps
    )


@pytest.mark.parametrize("bad", [None, math.nan])
def test_gaps_of_what_is_not_finite_are_null(models, bad):
    models[2]["metrics"]["model_utility"] = bad
    found = aggregate.with_gaps(models)[2]["metrics"]
    assert found["overall_gap"] is None and found["forget_gap"] == pytest.approx(0.1)


def test_comparison(models):
    found = ranking.compare(aggregate.with_gaps(models))
    a, b, c = found["methods"]
    assert found["seeds"] == [0, 1]
    assert a["rank"] == {"mean": 1.5, "low": 1, "high": 2, "n": 2}
    assert c["rank"] == {"mean": 3, "low": 3, "high": 3, "n": 2}
    # Of four resamples a wins one, b one, and in two their means are both 0.2.
    assert [m["first_probability"] for m in (a, b, c)] == [0.5, 0.5, 0]
    # Means of forget gap and utility: a (.2, .65), b (0, .4), c (.3, .4).
    assert [m["on_pareto_front"] for m in (a, b, c)] == [True, True, False]
    (pair,) = found["agreement"]  # ranks 1 2 3 and 2 1 3
    assert pair["seeds"] == [0, 1]
    assert pair["spearman"] == pytest.approx(1 - 6 * 2 / (3 * 8))
    assert pair["kendall"] == pytest.approx((2 - 1) / 3)


def test_only_seeds_that_all_methods_have_are_ranked(models):
    found = ranking.compare(aggregate.with_gaps(models[:-1]))
    assert found["seeds"] == [0] and found["agreement"] == []
    assert [m["rank"]["mean"] for m in found["methods"]] == [1, 2, 3]
    assert {m["first_probability"] for m in found["methods"]} == {None}
    found = ranking.compare(models)  # without gaps
    assert found["seeds"] == [] and found["methods"][0]["rank"]["n"] == 0
    assert ranking.compare([])["methods"] == []


def test_first_probability_of_many_seeds_is_drawn():
    # Six seeds; the first method wins unless seed 0 is drawn more than once in six.
    scores = np.array([[2.9, 1.0]] + [[0.0, 0.5]] * 5)
    once = (5 / 6) ** 6 + 6 * (1 / 6) * (5 / 6) ** 5
    found = ranking.first_probability(scores)
    assert found.sum() == pytest.approx(1)
    # Mean of 2.9 k against 1.0 k + 0.5 (6 − k): less if k < 1.25.
    assert found[0] == pytest.approx(once, abs=0.02)


def test_methods_that_tie_have_no_correlation():
    (pair,) = ranking.agreement([3, 4], np.array([[0.1, 0.1], [0.1, 0.2]]))
    assert pair == {"seeds": [3, 4], "spearman": None, "kendall": None}


def compared(difference, seed, alone=0.0, **more):
    metrics = {f"{name}_difference": difference for name in PAIRED}
    metrics["indistinguishable_from_reference"] = alone
    return {"seed": seed, "metrics": metrics, **more}


def test_equivalence_over_seeds():
    # Mean .02, standard error .01: t = 3 with one degree of freedom (Cauchy).
    found = ranking.equivalence([compared(0.01, 0, 1.0), compared(0.03, 1)])
    assert found["p_value"] == pytest.approx(0.5 - math.atan(3) / math.pi)
    assert found["holds"] is False
    assert (found["seeds_shown"], found["seeds"], found["margin"]) == (1, 2, 0.05)
    found = ranking.equivalence([compared(0.01, 0), compared(0.01, 1)])
    assert (found["p_value"], found["holds"]) == (0.0, True)
    tight = {"equivalence_margin": 0.005}
    found = ranking.equivalence([compared(0.01, s, **tight) for s in (0, 1)])
    assert (found["margin"], found["holds"]) == (0.005, False)
    found = ranking.equivalence([compared(0.01, 0, 1.0)])
    assert found["holds"] is None and found["seeds_shown"] == 1
    assert ranking.equivalence([{"metrics": {}}]) is None


def test_verdicts_in_words():
    text = comparison.equivalence_text
    assert text(None) == summary.DASH
    found = ranking.equivalence([compared(0.01, 0, 1.0)])
    assert text(found) == "shown within ±0.05, by 1 of 1 seed"
    found = ranking.equivalence([compared(0.01, 0), compared(0.01, 1)])
    assert text(found) == "shown: p 0.000 within ±0.05 (0 of 2 seeds alone)"


def test_report_page_and_console(tmp_path, content):
    path, page = write.write_report(tmp_path, content)
    written = write.load_report(tmp_path)
    assert written["comparison"]["methods"][2]["on_pareto_front"] is False
    stat = written["summary"][2]["metrics"]["overall_gap"]
    assert stat["mean"] == pytest.approx(0.2)
    rows = comparison.comparison_rows(written)
    assert [row[0] for row in rows] == ["a", "b", "c"]
    assert rows[2][2:5] == ["3 (3–3)", "0.00", "no"]
    assert rows[0][-3:] == ["1 min 1 s", "600", "1.000"]
    line = "Spearman 0.50 (0.50 to 0.50), Kendall 0.33 (0.33 to 0.33)"
    html = page.read_text(encoding="utf-8")
    assert line in html and '1.5<span class="half">(1–2)</span>' in html
    # The same content read back gives the same files.
    old = path.read_bytes()
    write.write_report(tmp_path, written)
    assert path.read_bytes() == old
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(tables.console_table(content))
    text = console.file.getvalue()
    assert "Methods compared" in text and "Spearman 0.50" in text
    assert max(map(len, text.splitlines())) <= 100


def test_page_of_a_single_seed_and_without_reference(tmp_path, content):
    content["models"] = content["models"][2:5]
    page = write.write_report(tmp_path, content)[1].read_text(encoding="utf-8")
    assert "Methods compared" in page and "Rank agreement" not in page
    content["models"] = []
    page = write.write_report(tmp_path, content)[1].read_text(encoding="utf-8")
    assert "Methods compared" not in page


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda c: c.pop("aggregate"), "comparison.aggregate is missing"),
        (lambda c: c["methods"][0].update(on_pareto_front=1), "on_pareto_front"),
        (lambda c: c["methods"][0].update(equivalence={}), "equivalence.margin"),
        (lambda c: c["agreement"][0].update(kendall="1"), r"agreement\[0\].kendall"),
    ],
)
def test_schema(content, change, path):
    complete = write.complete(content)
    write.validate_report(complete)
    change(complete["comparison"])
    with pytest.raises(ValueError, match=path):
        write.validate_report(complete)


def test_tradeoff_figure_marks_the_front(models):
    for row in models:
        row["metrics"]["forget_quality_ks"] = 0.5
    models = aggregate.with_gaps(models)
    rows = summary.summarise(models)
    left, right = curves.tradeoff(models, rows, figures.colors(rows))
    for panel in (left, right):
        assert len([dot for dot in panel.dots if dot.shape != "run"]) == 5
        assert len([dot for dot in panel.dots if dot.shape == "run"]) == 6
    np.testing.assert_allclose(left.front, [(0.0, 0.4), (0.2, 0.65)], atol=1e-12)
    assert [y for _, y in right.front] == pytest.approx(
        [0.65]
    )  # equal distance: utility
    assert right.x == "forget quality D ↓" and right.x_range == (0.0, 1.0)
