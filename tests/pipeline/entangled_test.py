"""Entangled requests as runs: rows, batches, checks, tuning, what stays as it was."""

import collections
import dataclasses
import pathlib

import numpy as np
import pytest
from tofu_rows import row, write

from experiments.config.language import (
    BudgetConfig,
    Demo,
    EvalConfig,
    ModelConfig,
    Request,
    Tofu,
    TrainConfig,
)
from experiments.deletion import check
from experiments.domains.base import Model
from experiments.domains.language import refuse
from experiments.domains.language.data import (
    evaluated_sets,
    load_data,
    validation_request,
)
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.goals import distance
from experiments.pipeline import execute
from experiments.report import write as write_report
from ofmu_jax.data.language.requests import entangled

TINY = Demo(people=6, forget_people=2, budget=BudgetConfig(60, batch_size=4))
HALF = dataclasses.replace(TINY, request="half")


@pytest.fixture(scope="module")
def domain():
    return LanguageDomain.on(HALF, *load_data(HALF))


def test_the_title_and_the_sizes_say_so(domain):
    about = domain.about
    assert about.title == "Forgetting half of the facts of 2 of 6 fictitious people"
    assert about.sizes["name"].endswith("/half")
    assert about.sizes["counts"]["adjacent"] == 24  # half of 2 × 8 facts × 3 wordings
    assert about.sizes["counts"]["forget"] == 24
    assert any("adjacent rows" in goal.text for goal in about.goals)


def test_a_whole_request_is_what_it_was(domain):
    data, title = load_data(TINY)
    whole = LanguageDomain.on(TINY, data, title)
    assert title == "Forgetting 2 of 6 fictitious people"
    of = lambda request: load_data(dataclasses.replace(TINY, request=request))[1]
    assert of("attribute:food") == "Forgetting the food of 6 fictitious people"
    assert len(whole.evaluated_by()[1]) == 7 == len(evaluated_sets(data))
    assert len(domain.evaluated_by()[1]) == 9
    assert whole.look.sets.keys() == {"forget", "retain"}
    assert not any(name.startswith("adjacent") for name in whole.about.sizes["counts"])
    assert validation_request(data).name == "fictitious/2-of-6-seed0/validation"
    assert whole.identity != domain.identity


def test_neighbours_are_another_run_than_whole():
    """Forget and retain rows are the same; what is looked at and scored is not."""
    run = dataclasses.replace(TINY, people=20, request="neighbours")
    data, _ = load_data(run)
    near, whole = (
        LanguageDomain.on(run, d)
        for d in (data, dataclasses.replace(data, adjacent=()))
    )
    assert near.data.forget == whole.data.forget
    assert near.identity != whole.identity


def test_retain_batches_have_adjacent_rows_as_any(domain):
    """They are drawn as often as any retain row."""
    job = domain.unlearning("grad_diff", 0, domain.task.init_params(0), 1.0)
    near = {
        tuple(e.input_ids.tolist()) for e in domain.task.encode(domain.data.adjacent)
    }
    seen, total, stream = collections.Counter(), 0, job.stream()
    for _ in range(1000):
        batch = next(stream)["retain"]
        ids = np.asarray(batch["input_ids"]).reshape(-1, batch["input_ids"].shape[-1])
        mask = np.asarray(batch["attention_mask"], bool).reshape(ids.shape)
        seen.update(tuple(a[b].tolist()) for a, b in zip(ids, mask, strict=True))
        total += len(ids)
    share = len(domain.data.adjacent) / len(domain.data.retain)
    assert len(near) == 24 and near <= seen.keys()
    assert sum(seen[ids] for ids in near) / total == pytest.approx(share, rel=0.1)


def test_checks_and_scores_look_at_adjacent_rows(domain):
    params = domain.task.init_params(0)
    folder = pathlib.Path()
    goal = domain.yardstick(Model("retrained", "retrained", 0, params, "", {}, folder))
    assert goal.keys() >= {"adjacent_prob", "adjacent_nll", "retain_prob"}
    losses = [
        s.avg_loss
        for s in domain.task.score_encoded(
            params, domain.task.encode(domain.data.adjacent)
        )
    ]
    assert goal["adjacent_prob"] == pytest.approx(np.exp(-np.array(losses)).mean())
    worse = {**goal, "adjacent_prob": goal["adjacent_prob"] - 0.25}
    assert distance(worse, goal) == pytest.approx(0.25)


def test_tuning_plays_an_entangled_request(domain, tmp_path):
    other = domain.validation(tmp_path)
    assert other.data.request == "half" and other.data.full == domain.data.retain
    assert len(other.data.forget) == len(other.data.adjacent) == 24
    assert other.look.sets.keys() == {"forget", "retain", "adjacent"}
    touched = {*domain.data.forget, *domain.data.adjacent}
    assert touched.isdisjoint(other.data.forget + other.data.adjacent)


def test_tofu(data_dir):
    run = Tofu(data_dir=data_dir / "tofu", split="forget01", max_retain=200)
    data, title = load_data(dataclasses.replace(run, request="half"))
    assert title == "TOFU forget01, half of the questions of each author"
    assert (len(data.forget), len(data.adjacent)) == (20, 20)
    general = data.real_authors + data.world_facts
    assert data.retain[: len(general)] == general  # they stay, and are generic
    assert len(data.retain) == len(general) + 200 + 20
    assert len(validation_request(data).forget) == 20
    run = dataclasses.replace(run, request="attribute:birth", pretrain_epochs=1)
    data, title = load_data(run)
    assert title == "TOFU forget01, the attribute birth of everyone"
    assert set(data.holdout).isdisjoint(data.pretraining + data.full)
    assert len(data.pretraining) + len(data.holdout) + 240 == 4000


def test_rows_that_are_given(tmp_path):
    files = {
        "forget_file": write(tmp_path / "f.jsonl", [row("a")]),
        "retain_file": write(tmp_path / "r.jsonl", [row("b"), row("c")]),
        "adjacent_file": write(tmp_path / "n.jsonl", [row("d"), row("e")]),
    }
    run = Request(model="m", retain_model="r", **files)
    data, _ = load_data(run)
    assert (data.request, len(data.retain), len(data.adjacent)) == (
        entangled.GIVEN,
        4,
        2,
    )
    (note,) = refuse.adjacent_notes(run, data)
    assert "has to know all 4 retain rows, the 2 adjacent ones too" in note
    alone = dataclasses.replace(run, retain_model=None)
    assert refuse.adjacent_notes(alone, data) == []


@pytest.mark.slow
def test_a_tuned_run_from_end_to_end(tmp_path):
    run = dataclasses.replace(
        HALF,
        output_dir=tmp_path / "out",
        seeds=(0,),
        methods=("grad_diff",),
        tune=2,
        model_size=ModelConfig(32, 64, 2, 2, 1, 2048),
        train=TrainConfig(epochs=2, batch_size=16),
        budget=BudgetConfig(gradient_evaluations=24, batch_size=4, checks=2),
        evaluation=EvalConfig(
            batch_size=32, max_new_tokens=4, max_rows=4, bootstrap=20
        ),
    )
    execute.execute(run)
    content = write_report.load_report(run.output_dir)
    by_role = {row["role"]: row["metrics"] for row in content["models"]}
    goal = by_role["retrained"]["adjacent_Q_A_Prob"]
    for role in ("target", "unlearned"):
        metrics = by_role[role]
        expected = metrics["adjacent_Q_A_Prob"] - goal
        assert metrics["adjacency_gap"] == pytest.approx(expected, abs=1e-12)
    for trial in content["tuning"]["grad_diff"]:
        assert "adjacent_prob" in trial["check"]
        assert trial["score"] == distance(trial["check"], trial["reference"])
    assert content["summary"][-1]["metrics"]["adjacency_gap"]["n"] == 1
    # The record holds, the rows of the request and the gap scored again among it.
    checks = list(check.verify(check.Verify(run.output_dir)))
    assert checks and all(found.holds for found in checks)
