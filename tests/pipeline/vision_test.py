"""The vision command from end to end, small: every method, stages, report, refusals."""

import dataclasses
import json
import shutil

import matplotlib.image
import numpy as np
import pytest
import schemas
import tyro
from huggingface_hub import ModelCard

import ofmu_jax
from experiments.config.vision import Cifar, VisionMethods, resolved
from experiments.deletion.check import Verify, verify
from experiments.domains import verdict
from experiments.domains.vision.data import validation_request
from experiments.domains.vision.domain import VisionDomain
from experiments.domains.vision.grid import grid_lines
from experiments.domains.vision.target import forget_target
from experiments.domains.vision.task import VisionTask
from experiments.pipeline.execute import configured, execute, recipe
from experiments.report.write import load_report
from experiments.run import main
from experiments.stages.files import write_json
from ofmu_jax.data.vision.images import load_images
from ofmu_jax.data.vision.split import make_split
from ofmu_jax.methods.vision.ofmu import Ofmu
from ofmu_jax.methods.vision.registry import METHODS
from ofmu_jax.methods.vision.saliency import SalUn
from ofmu_jax.methods.vision.scrub import Scrub
from ofmu_jax.models import classifier, resnet

TINY = Cifar(
    methods=("ofmu", "influence"),
    seeds=(0,),
    max_train=120,
    max_test=40,
    epochs=2,
    batch_size=16,
    unlearn_epochs=2.0,
    checks=2,
    eval_batch_size=40,
    grid_images=3,
    method=VisionMethods(ofmu=Ofmu(beta=0.0)),  # compiles in half the time
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny run: its configuration and the content of its report."""
    run = dataclasses.replace(TINY, output_dir=tmp_path_factory.mktemp("run") / "out")
    return run, execute(run)


def marks(folder) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*.stage.json")
    }


def test_leaves_a_valid_report_and_a_picture(finished):
    run, content = finished
    saved = load_report(run.output_dir)
    assert [(m["role"], m["method"]) for m in saved["models"]] == [
        ("retrained", "retrained"),
        ("target", "target"),
        *(("unlearned", name) for name in run.methods),
    ]
    assert "average gap" in " ".join(saved["notes"])
    assert "class 3 is left out" in saved["notes"][0]
    assert matplotlib.image.imread(run.output_dir / "forget_images_seed0.png").ndim == 3
    for row in content["models"]:
        metrics = row["metrics"]
        for name in ("unlearning_accuracy", "retain_accuracy", "mia_confidence", "zrf"):
            assert 0 <= metrics[name] <= 1
        assert metrics["run_time_minutes"] == pytest.approx(row["seconds"] / 60)
        folder = run.output_dir / row["method"] / "seed0"
        assert (folder / "training/checkpoint").is_dir()
        assert (folder / "evaluation/forget.npz").is_file()
        if row["role"] != "retrained":
            assert 0 <= metrics["average_gap"] <= 1
    # The retrained model never saw the class: its accuracy there is that of a guess.
    assert content["models"][0]["metrics"]["forget_accuracy"] < 0.3
    counts = content["data"]["counts"]
    assert counts["forget"] + counts["retain"] == counts["train"]
    # Two epochs on 120 images do not teach the class: there are no claims.
    found = content["nothing_to_forget"]
    assert (found["metric"], content["claims"]) == ("forget_accuracy", [])
    assert found["target"] <= 0.1 + verdict.GAP  # chance
    assert [v["forgot"]["word"] for v in content["verdicts"]] == [verdict.NOTHING] * 2
    assert (
        json.loads((run.output_dir / "config.json").read_text())["command"] == "cifar"
    )


def test_exports_are_the_models_and_their_records_hold(finished, tmp_path):
    run, content = finished
    for row in content["models"]:
        config, variables = classifier.load(run.output_dir / row["export"])
        task = task_of(run)
        assert config == task.config
        right = task.probabilities(config, variables, task.sets["test"]).argmax(1)
        share = float((right == task.sets["test"].labels).mean())
        assert share == row["metrics"]["test_accuracy"]
        recorded = (run.output_dir / row["export"] / "deletion.json").is_file()
        assert recorded == (row["role"] == "unlearned")
    checks = list(verify(Verify(run.output_dir)))
    assert len(checks) == 10 * len(run.methods)
    assert all(check.holds for check in checks)
    # Weights that were changed are found, by their hash and by their scores.
    out = shutil.copytree(run.output_dir, tmp_path / "out")
    shutil.copy(out / "target/seed0/model/model.safetensors", out / "ofmu/seed0/model")
    broken = {(c.model, c.name) for c in verify(Verify(out)) if not c.holds}
    assert ("ofmu/seed0", "exported files") in broken
    assert ("ofmu/seed0", "metrics") in broken
    assert {model for model, _ in broken} == {"ofmu/seed0"}


def test_files_follow_their_schemas_and_images_have_cards(finished):
    run, content = finished
    found = schemas.check(run.output_dir)
    assert found == {"config.json": 1, "report.json": 1, "deletion.json": 2}
    for row in content["models"]:
        card = ModelCard.load(run.output_dir / row["export"] / "README.md")
        assert card.data.pipeline_tag == "image-classification"
        found = {r.metric_type: r.metric_value for r in card.data.eval_results}
        assert found["test_accuracy"] == row["metrics"]["test_accuracy"]
        assert "classifier.load" in card.text
    rows = ofmu_jax.load_run(run.output_dir).rows
    images = {r["row"] for r in rows if r["metric"] == "forget_label_probability"}
    assert images == {*task_of(run).split.forget.tolist()}


@pytest.mark.slow
def test_the_config_of_a_run_gives_the_same_numbers(finished, tmp_path):
    """What a researcher does with a folder that somebody hands over."""
    run, _ = finished
    config = run.output_dir / "config.json"
    words = ["--config", str(config), "--output-dir", str(tmp_path / "out")]
    assert main(words) in (0, 3)
    ours, theirs = map(ofmu_jax.load_run, (tmp_path / "out", run.output_dir))
    timed = lambda rows: [r for r in rows if r["metric"] != "run_time_minutes"]
    assert timed(ours.metrics) == timed(theirs.metrics) and ours.metrics
    assert ours.rows == theirs.rows and ours.rows
    assert ours.trajectories == theirs.trajectories and ours.trajectories


def test_no_method_exceeds_the_budget(finished):
    _, content = finished
    budget = 2.0 * content["data"]["counts"]["train"] / 16 + 1
    for row in content["models"]:
        if row["role"] == "unlearned":
            assert 0 < row["gradient_evaluations"] <= budget
    ofmu = content["models"][2]
    assert {"phi", "cosine", "rho", "retain_loss"} <= ofmu["trajectory"][1].keys()
    assert "eval_forget_nll" in ofmu["trajectory"][0]


@pytest.mark.slow
def test_run_again_redoes_nothing_and_another_rate_only_its_method(finished):
    run, content = finished
    before = marks(run.output_dir)
    again = execute(run)
    assert marks(run.output_dir) == before
    for old, new in zip(content["models"], again["models"], strict=True):
        assert old["metrics"] == new["metrics"]
    method = dataclasses.replace(
        run.method, influence=dataclasses.replace(run.method.influence, alpha=2.0)
    )
    execute(dataclasses.replace(run, method=method))
    after = marks(run.output_dir)
    redone = {name for name in before if before[name] != after[name]}
    assert redone == {
        "influence/seed0/training.stage.json",
        "influence/seed0/evaluation.stage.json",
        "influence/seed0/model.stage.json",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ofmu", "one update of ofmu takes 5 gradient evaluations, more"),
        ("salun", "one update of salun takes 1 gradient evaluations after a setup of"),
        ("influence", "one update of influence takes"),
    ],
)
def test_what_costs_more_than_the_budget_is_refused(name, message):
    run = dataclasses.replace(TINY, methods=(name,), unlearn_epochs=0.1)
    with pytest.raises(ValueError, match=rf"{message}.* --unlearn-epochs allows"):
        VisionDomain.of(run).refuse()


def test_configurations_of_an_earlier_run_are_taken_over(tmp_path):
    salun = SalUn(density=0.25, learning_rate=0.03)
    earlier = Cifar().with_method("salun", salun)
    write_json(tmp_path / "config.json", recipe(earlier))
    run = dataclasses.replace(TINY, methods=("salun",), tuned_from=tmp_path)
    assert configured(run).method.salun == salun


def test_every_method_has_a_name_on_the_command_line():
    task = task_of(dataclasses.replace(TINY, methods=tuple(METHODS)))
    assert task.config.name == "resnet8"
    assert len(task.sets["train"]) == 113 and task.budget == 15  # ⌈2 · 113 / 16⌉


def task_of(run: Cifar) -> VisionTask:
    run = resolved(run)
    data = load_images("digits", max_train=run.max_train, max_test=run.max_test)
    return VisionTask(run, data, make_split(data, run.forget))


def test_forget_targets(monkeypatch):
    monkeypatch.setattr(VisionTask, "mean_nll", lambda self, c, v, part: (v, len(part)))
    one, other = resnet.Variables(1, 1), resnet.Variables(2, 2)
    find = lambda **changes: forget_target(
        task_of(dataclasses.replace(TINY, **changes)), one, other
    )
    task = task_of(TINY)
    assert find() == (other, len(task.sets["forget"]))
    assert find(forget_target="none") is None
    assert find(forget_target="chance") == pytest.approx(np.log(10))
    assert find(forget_target="1.5") == 1.5
    held_out = find(forget_target="heldout", forget="random:0.2")
    assert held_out[0] == one
    with pytest.raises(ValueError, match="heldout needs validation images"):
        find(forget_target="heldout")
    with pytest.raises(ValueError, match="--forget-target is half; it must be"):
        find(forget_target="half")


def test_a_class_that_boundary_expanding_adds_has_a_name():
    p = {"after": np.array([[0.1, 0.2, 0.7]])}
    assert grid_lines(p, 0, 1, ("cat", "dog")) == [("after: forgotten .70", False)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "--seeds is empty"),
        ({"methods": ("ofmu", "ofmu")}, "--methods names one twice: ofmu ofmu"),
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({"batch_size": 1}, "--batch-size is 1; it must be between 2 and 1,000,000"),
        ({"unlearn_epochs": 0.0}, "--unlearn-epochs is 0.0"),
        ({"methods": ("salum",)}, "did you mean salun"),
        (
            {"method": VisionMethods(ofmu=Ofmu(rho=float("nan")))},
            "--ofmu.rho is nan; it must be a finite number",
        ),
        (
            {"methods": ("salun",), "method": VisionMethods(salun=SalUn(density=0.0))},
            "--salun.density is 0.0; it must be above 0 and at most 1",
        ),
        (
            {
                "methods": ("scrub",),
                "method": VisionMethods(scrub=Scrub(temperature=-1.0)),
            },
            "--scrub.temperature is -1.0; it must be above 0",
        ),
        ({"forget": "file:x", "max_train": 50}, "leave out --max-train"),
    ],
)
def test_wrong_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        resolved(dataclasses.replace(TINY, **changes))


def test_options_of_the_command_line():
    words = "--dataset cifar10 --data-dir d --forget random:0.1 --methods ofmu salun "
    words += "--salun.density 0.3 --ofmu.inner-steps 3 --seeds 4 5"
    run = tyro.cli(Cifar, args=words.split())
    assert (run.dataset, run.forget, run.methods) == (
        "cifar10",
        "random:0.1",
        ("ofmu", "salun"),
    )
    assert (run.method.salun.density, run.method.ofmu.inner_steps) == (0.3, 3)
    assert run.seeds == (4, 5)


def test_rates_for_digits_give_way_to_those_that_are_given():
    rate = lambda run: resolved(run).method.salun.learning_rate
    given = VisionMethods(salun=SalUn(learning_rate=0.02))
    assert rate(Cifar()) == 0.1
    assert rate(Cifar(dataset="cifar10")) == 0.013
    assert rate(Cifar(rates="published")) == 0.013
    assert rate(Cifar(method=given)) == 0.02


def test_defaults_follow_the_data_set():
    small, large = resolved(Cifar()), resolved(Cifar(dataset="cifar10"))
    assert (small.model, small.epochs, small.batch_size) == ("resnet8", 12, 64)
    assert (large.model, large.epochs, large.batch_size) == ("resnet18", 182, 256)
    assert (small.unlearn_epochs, large.unlearn_epochs) == (5, 10)


@pytest.mark.parametrize("spec", ["random:0.2", "class:9"])
def test_tuning_sees_no_forget_and_no_test_image(spec):
    data = load_images("digits", None, max_train=300, max_test=60)
    split = make_split(data, spec, validation=0.1)
    part, other = validation_request(data, split)
    rows = lambda part: {image.tobytes() for image in part.images}
    assert rows(part.train) == rows(data.train.take(split.retain))
    assert rows(part.test) == rows(data.train.take(split.validation))
    assert len(other.validation) == 0 and len(other.train) == len(split.retain)
    if spec == "class:9":  # the class after the last one is the first
        assert set(part.train.labels[other.forget]) == {0}
        assert 0 not in part.test.labels[other.test]
        assert 9 not in part.train.labels
    else:
        assert len(other.forget) == round(0.2 * len(split.retain))


def test_tuning_from_a_file_of_indices_draws_as_many(tmp_path):
    data = load_images("digits", None)
    path = tmp_path / "forget.txt"
    path.write_text("\n".join(map(str, range(40))))
    split = make_split(data, f"file:{path}")
    _, other = validation_request(data, split)
    assert len(other.forget) == 40


@pytest.mark.slow
def test_tuned_run_reports_its_trials_and_uses_the_best(tmp_path):
    run = dataclasses.replace(
        TINY, output_dir=tmp_path / "out", methods=("fine_tune",), tune=2
    )
    content = execute(run)
    trials = content["tuning"]["fine_tune"]
    assert [t["trial"] for t in trials] == [0, 1]
    (chosen,) = (t for t in trials if t["chosen"])
    assert chosen["score"] == min(t["score"] for t in trials)
    assert content["recipe"]["method"]["fine_tune"] == chosen["config"]
    assert "tuned with the same number" in " ".join(content["notes"])
    before = marks(run.output_dir)
    execute(run)
    assert marks(run.output_dir) == before


def test_options_of_tuning_that_contradict_each_other():
    with pytest.raises(ValueError, match="--forget-target heldout aims"):
        resolved(dataclasses.replace(TINY, tune=2, forget_target="heldout"))
    with pytest.raises(ValueError, match="--tune needs validation images"):
        resolved(dataclasses.replace(TINY, tune=2, validation=0.0))


@pytest.mark.parametrize(
    ("seeds", "methods"),
    [
        pytest.param((0,), ("ofmu",), marks=pytest.mark.slow),
        pytest.param(Cifar().seeds, Cifar().methods, marks=pytest.mark.long),
    ],
)
def test_the_default_forgets_a_digit_in_every_seed(tmp_path, seeds, methods):
    run = Cifar(output_dir=tmp_path / "out", seeds=seeds, methods=methods)
    content = execute(run)
    gaps = {
        (m["method"], m["seed"]): m["metrics"]["average_gap"]
        for m in content["models"]
        if m["role"] != "retrained"
    }
    assert gaps["target", 0] > 0.4  # the class is known before
    for seed in seeds:
        assert gaps["ofmu", seed] < 0.03
    assert len(content["claims"]) == 2 * len(methods)
    assert content["verdicts"][0]["forgot"]["word"] == verdict.FORGOT
