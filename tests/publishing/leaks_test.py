"""No forget quality without a leak beside it, and the retrained model's value."""

import itertools
import pathlib

import pytest

from experiments.ablation import report as ablations
from experiments.report import comparison, glossary, published, ranking, summary

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [ROOT / "experiments" / "results" / "TABLES.md"]
RESULTS = sorted((ROOT / "experiments" / "results").glob("*.json"))
LABELS = [glossary.metric(name).label for name in glossary.LEAKS]
QUALITY = ("KS D", "forget quality D")


def heads_with_quality(page):
    """Heads of the page's tables that have a Kolmogorov–Smirnov distance."""
    lines = page.read_text().splitlines()
    for head, rule in itertools.pairwise(lines):
        if rule.startswith(("|---", "| ---")) and any(x in head for x in QUALITY):
            yield head


def test_every_table_of_the_documentation():
    heads = [(page.name, h) for page in PAGES for h in heads_with_quality(page)]
    assert {name for name, _ in heads} >= {"README.md", "tofu.md", "TABLES.md"}
    for name, head in heads:
        for label in LABELS:
            assert label in head, f"{name}: {head}"


def test_every_published_run_of_language_models_has_them():
    found = [published.load(path) for path in RESULTS]
    runs = [
        r for r in found if r["schema"] == published.RUN and "baselines" in r["recipe"]
    ]
    assert len(runs) >= 9
    for run in runs:
        for row in run["summary"]:  # the retrained model too
            assert set(glossary.LEAKS) <= row["metrics"].keys(), run["title"]


def metrics(leak):
    return dict.fromkeys(glossary.LEAKS, leak) | {"forget_quality_ks": 0.5}


@pytest.fixture
def content():
    model = lambda role, name, seed, leak: {
        "role": role,
        "method": name,
        "seed": seed,
        "metrics": metrics(leak),
    }
    models = [model("retrained", "retrained", 0, 0.25)]
    models += [model("unlearned", "npo", seed, 0.5) for seed in (0, 1)]
    table = {
        "summary": summary.summarise(models),
        "comparison": ranking.compare(models),
    }
    return {"models": models, **table}


def test_beside_the_retrained_models(content):
    head, row = comparison.comparison_table(content)
    cells = dict(zip(head, row, strict=True))
    assert [cells[name] for name in comparison.LEAKED] == ["0.500 (→ 0.250)"] * 3
    assert "P(first)" not in cells  # nothing to say: there is no overall gap
    after = head.index("forget quality D ↓") + 1
    assert tuple(head[after : after + 3]) == comparison.LEAKED


def test_among_the_first_columns():
    core = list(summary.CORE)
    places = [core.index(name) for name in glossary.LEAKS]
    assert places == list(range(places[0], places[0] + 3))
    assert core[places[0] - 1] == "forget_quality_ks"
    assert ablations.MORE.keys() >= set(glossary.LEAKS)
