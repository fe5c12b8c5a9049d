"""What a report makes of adjacent rows: gap, verdict, tables; on paper."""

import pytest

from experiments.ablation import report as ablations
from experiments.domains.language.goals import distance
from experiments.domains.verdict import Facts, verdict
from experiments.report import comparison, glossary, ranking, summary
from experiments.report.gaps import with_gaps


def model(role, seed, forget, retain, adjacent, gap=None):
    metrics = {
        "forget_Q_A_Prob": forget,
        "retain_Q_A_Prob": retain,
        "adjacent_Q_A_Prob": adjacent,
    }
    metrics |= {} if gap is None else {"adjacency_gap": gap}
    return {"role": role, "method": role, "seed": seed, "metrics": metrics}


MODELS = [
    model("target", 0, 0.9, 0.9, 0.95, 0.0),
    model("retrained", 0, 0.1, 0.9, 0.95),
    model("unlearned", 0, 0.2, 0.85, 0.75, -0.2),
    model("unlearned", 1, 0.2, 0.85, 0.65, -0.3),
]


def test_the_overall_gap_counts_lost_neighbours():
    found = [m["metrics"].get("overall_gap") for m in with_gaps(MODELS)]
    # |f − f*| + max(0, r* − r, a* − a)
    assert found[1] is None
    assert [found[0], *found[2:]] == pytest.approx([0.8, 0.1 + 0.2, 0.1 + 0.3])


def test_the_gap_stands_in_the_tables_with_its_interval():
    rows = with_gaps(MODELS)
    table = summary.summarise(rows)
    stat = table[-1]["metrics"]["adjacency_gap"]
    assert stat["mean"] == pytest.approx(-0.25) and stat["n"] == 2
    half = 12.706 * 0.1 / 2  # Student's t with one degree of freedom, s / √2 = 0.05
    assert stat["low"] == pytest.approx(-0.25 - half, abs=1e-3)
    assert "adjacency_gap" in summary.core_metrics(table)
    found = comparison.comparison_table(
        {"summary": table, "comparison": ranking.compare(rows)}
    )
    cells = dict(zip(*found, strict=True))
    assert cells[comparison.ADJACENCY] == "-0.250"
    assert glossary.metric("adjacency_gap").goal == "zero"
    assert "Below 0" in glossary.metric("adjacency_gap").text


def test_a_method_that_loses_the_neighbours_has_not_kept():
    facts = [Facts(m["metrics"]) for m in MODELS]
    found = verdict(facts[2], facts[0], facts[1])
    assert (found.kept.word, found.kept.metric) == ("lost", "adjacent_Q_A_Prob")
    kept = model("unlearned", 0, 0.12, 0.85, 0.9)["metrics"]
    assert verdict(Facts(kept), facts[0], facts[1]).kept.word == "kept"


def test_a_trial_is_scored_by_the_neighbours_too():
    goal = {"forget_prob": 0.1, "retain_prob": 0.9, "adjacent_prob": 0.9}
    check = {"forget_prob": 0.2, "retain_prob": 0.85, "adjacent_prob": 0.6}
    assert distance(check, goal) == pytest.approx(0.1 + 0.3)
    assert distance(check | {"adjacent_prob": 1.0}, goal) == pytest.approx(0.1 + 0.05)


def test_ablations_show_adjacent_rows_where_there_are_some():
    variant = lambda **found: {
        "variants": [{"statistics": {"forget_prob": {}} | found}]
    }
    assert ablations.columns_of(variant()) == ablations.COLUMNS
    found = ablations.columns_of(variant(adjacent_prob={}, adjacency_gap={}))
    added = [name for name in found if name not in ablations.COLUMNS]
    assert added == ["adjacent_prob", "adjacency_gap"]
