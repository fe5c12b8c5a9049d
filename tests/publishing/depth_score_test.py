"""Aggregates of 150 models that others tuned, recomputed from their raw metrics."""

import json
import pathlib

import pytest

from experiments.publishing import depth_score
from experiments.report import published
from ofmu_jax.evals.language import aggregates
from ofmu_jax.evals.language.scores import EvaluationError

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results" / "tofu.md"
OURS = ROOT / "experiments" / "results" / "tofu_forget05_tuned12_five_seeds.json"


@pytest.fixture(scope="module")
def content(data_dir):
    path = data_dir / "uds" / "method_results.json"
    if not path.is_file():
        pytest.skip(f"the 150 tuned models are not at {path}")
    return json.loads(path.read_text())


def test_every_aggregate_equals_theirs(content):
    # They add 1e-12 to every denominator, which is all of the difference.
    models = content["models"]
    assert len(models) == 152
    for model in models:
        found = depth_score.scores(model, content["full_utility"])
        assert len(found) == 7
        for name, value in found.items():
            who = f"{model['model']}, {name}"
            assert value == pytest.approx(model[name], abs=1e-10), who


def test_the_best_of_each_method(content):
    found = {m["method"]: m["model"] for m in depth_score.best(content)}
    assert list(found)[:3] == ["retain", "altpo", "npo"]
    assert found["altpo"] == "altpo_lr5e5_b01_a2_ep10"
    counts = {name: 0 for name in content["method_counts"]}
    assert found.keys() == counts.keys() | {"retain"}


def test_the_page_has_both_tables(content):
    result = published.load(OURS, published.RUN)
    text = PAGE.read_text()
    assert depth_score.theirs(content) in text
    assert depth_score.ours(result["summary"]) in text


def test_on_paper():
    parts = {"loss": 1.0, "zlib": 0.5, "min_k": 1.0, "min_k_pp": 0.5}
    assert aggregates.attack_similarity(**parts) == pytest.approx(4 / 6)
    assert aggregates.privacy_score(attacks=1.0, depth=0.0) == 0
    found = aggregates.fluent_utility(model_utility=0.6, fluency=0.9)
    assert found == pytest.approx(2 * 0.6 * 0.9 / 1.5)
    found = aggregates.overall_score(memorization=0.5, privacy=0.25, utility=1.0)
    assert found == pytest.approx(3 / 7)


@pytest.mark.parametrize("value", (-0.1, 1.1, float("nan")))
def test_what_is_no_share_is_refused(value):
    with pytest.raises(EvaluationError, match=r"fluency is .*; it must be from 0 to 1"):
        aggregates.fluent_utility(model_utility=0.5, fluency=value)
    with pytest.raises(EvaluationError, match="must be > 0"):
        aggregates.relative_utility(0.5, 0.0)
