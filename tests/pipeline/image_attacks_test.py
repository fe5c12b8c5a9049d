"""Attacks in a run on images, small: stages, what all seeds tell together, refusals."""

import dataclasses

import numpy as np
import pytest

from experiments.config.vision import Cifar, VisionMethods
from experiments.deletion.record import read_record
from experiments.domains.base import Model
from experiments.domains.vision import attacks
from experiments.domains.vision.domain import VisionDomain
from experiments.pipeline.execute import execute
from ofmu_jax.attacks import recovery
from ofmu_jax.attacks.vision.budget import Budget
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.methods.vision.fisher import Ssd

TINY = Cifar(
    methods=("fine_tune",),
    seeds=(0,),
    max_train=120,
    max_test=40,
    epochs=1,
    batch_size=16,
    unlearn_epochs=1.0,
    checks=1,
    eval_batch_size=40,
    grid_images=0,
    attacks=("relearn",),
    attack=Budget(relearn_images=(1, 2), relearn_updates=2, relearn_batch=8),
)


def marks(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("attacks/*.stage.json")}


@pytest.mark.slow
def test_every_model_is_attacked_once_and_told_of(tmp_path):
    run = dataclasses.replace(TINY, output_dir=tmp_path / "out")
    found = execute(run)["attacks"]
    (row,) = found["rows"]
    assert (row["attack"], row["method"], row["seeds"]) == ("relearn", "fine_tune", 1)
    assert row["reference"] is not None and row["target"] is not None
    curves = {curve["role"]: curve["at"] for curve in found["curves"]}
    assert curves == {k: [0, 1, 2] for k in ("retrained", "target", "unlearned")}
    assert "1, 2 images a class" in found["attacks"]["relearn"]["budget"]
    before = marks(run.output_dir)
    assert len(before) == 3
    record = read_record(run.output_dir / "fine_tune/seed0/model/deletion.json")
    assert [told["attack"] for told in record["attacks"]["found"]] == ["relearn"]
    assert "<h2>Attacks</h2>" in (run.output_dir / "report.html").read_text()
    assert execute(run)["attacks"] == found and marks(run.output_dir) == before
    other = dataclasses.replace(TINY.attack, relearn_rate=0.1)
    execute(dataclasses.replace(run, attack=other))
    assert not set(before.items()) & set(marks(run.output_dir).items())


def model(folder, role, name, seed, odds) -> Model:
    """A model whose label has these log odds on four forget images."""
    p = 1 / (1 + np.exp(-np.array(odds, float)))
    (folder / "evaluation").mkdir(parents=True)
    path = folder / "evaluation" / "forget.npz"
    np.savez(path, probabilities=np.stack([p, 1 - p], 1), labels=np.zeros(4, int))
    later = {attacks.U_LIRA: attacks.LATER}
    evaluation = Evaluation({"x": 1.0}, {})
    return Model(
        role,
        name,
        seed,
        None,
        "",
        {},
        folder,
        evaluation=evaluation,
        not_attacked=later,
    )


def models_of(folder, seeds):
    kinds = {
        ("retrained", "retrained"): [0.0, 0, 0, 0],
        ("target", "target"): [9.0, 9, 9, 9],
        ("unlearned", "hides"): [4.0, 4, 4, 1],
        ("unlearned", "forgets"): [0.0, 0, 0, 0],
    }
    return [
        model(folder / name / str(seed), role, name, seed, odds)
        for (role, name), odds in kinds.items()
        for seed in seeds
    ]


def together(models):
    run = dataclasses.replace(TINY, attacks=("u-lira",))
    task = VisionDomain.of(run).task
    found = attacks.attacks_of(run.attacks, run.attack, task)
    assert found is not None and found.lacks("u-lira", None) == attacks.LATER
    return found.together(models)


def test_u_lira_takes_the_other_seeds_as_shadows(tmp_path):
    found = {(m.name, m.seed): m for m in together(models_of(tmp_path, (0, 1)))}
    value = lambda name: recovery.value(found[name, 1].attacked["u-lira"], 0)
    # All are recognised: unlearned ones of 4 and 1, retrained ones of 0.
    assert value("hides") == 1.0
    # Nothing tells these from each other.
    assert value("forgets") == value("retrained") == 0.5
    assert not found["target", 0].attacked
    assert all(not m.not_attacked for m in found.values())


def test_u_lira_says_what_it_needs(tmp_path):
    found = together(models_of(tmp_path, (0,)))
    missing = {m.name: m.not_attacked.get("u-lira") for m in found}
    assert missing == {
        "target": None,
        **dict.fromkeys(("retrained", "hides", "forgets"), attacks.TOO_FEW),
    }
    assert not any(m.attacked for m in found)


def test_unknown_attacks_and_budgets_are_refused():
    refuse = lambda **changes: VisionDomain.of(
        dataclasses.replace(TINY, **changes)
    ).refuse()
    with pytest.raises(ValueError, match="--attacks nf4 is unknown; choose all or"):
        refuse(attacks=("nf4",))
    with pytest.raises(ValueError, match=r"--attack.relearn-images is 0"):
        refuse(attack=Budget(relearn_images=(1, 0)))
    for wrong, said in (((), "is empty and"), ((5, 1), "5 1"), ((2, 2), "2 2")):
        with pytest.raises(ValueError, match=rf"--attack.relearn-images {said} must"):
            refuse(attack=Budget(relearn_images=wrong))
    with pytest.raises(ValueError, match=r"--attack.relearn-rate is 0.0"):
        refuse(attack=Budget(relearn_rate=0.0))
    assert refuse(attacks=("all",)) == []


def test_ssd_says_where_its_alpha_dampens_nothing():
    said = lambda alpha: VisionDomain.of(
        dataclasses.replace(
            TINY,
            methods=("ssd",),
            method=VisionMethods(ssd=Ssd(alpha=alpha)),
            unlearn_epochs=3.0,
            attacks=(),
        )
    ).refuse()
    (note,) = said(20.0)
    assert note.startswith("ssd: with ") and "set it lower" in note
    assert said(2.0) == []
