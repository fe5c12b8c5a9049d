"""The command with --trainable and --lora, from options to exported models."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.config.language import (
    BudgetConfig,
    Demo,
    EvalConfig,
    LoraConfig,
    ModelConfig,
    TrainConfig,
)
from experiments.config.refuse import check_run
from experiments.config.stored import run_from_json
from experiments.deletion import check as verify
from experiments.deletion import record
from experiments.domains.base import Model
from experiments.domains.language import method, refuse
from experiments.domains.language.domain import LanguageDomain
from experiments.pipeline.execute import execute
from experiments.pipeline.pipeline import Pipeline
from experiments.run import parse
from experiments.shell.heartbeat import Stages
from experiments.stages.files import fingerprint, to_json
from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.methods import Lora, Subset

TINY = Demo(
    seeds=(0,),
    people=6,
    forget_people=1,
    methods=("ofmu", "kl_minimization"),
    model_size=ModelConfig(32, 64, 2, 2, 1, 2048),
    train=TrainConfig(epochs=2, batch_size=16),
    budget=BudgetConfig(
        gradient_evaluations=24, batch_size=8, checks=2, forget_target="9"
    ),
    evaluation=EvalConfig(batch_size=32, max_new_tokens=4, max_rows=4, bootstrap=20),
)


def with_lora(run, **fields):
    return dataclasses.replace(run, lora=LoraConfig(**{"rank": 2} | fields))


def trainable(run, pattern="down_proj"):
    return dataclasses.replace(run, trainable=pattern)


def domain_of(run):
    return LanguageDomain.on(run, fictitious_people(0, 6, 1))


# --- options ------------------------------------------------------------------------


def test_options_reach_the_configuration():
    run = parse("demo --lora.rank 4 --lora.alpha 8 --lora.targets q_proj".split())
    assert run.lora == LoraConfig(4, 8.0, "q_proj")
    assert method.part_of(run) == Lora(4, 8.0, "q_proj")
    run = parse(["demo", "--trainable", "down_proj"])
    assert method.part_of(run) == Subset("down_proj")
    assert method.part_of(parse(["demo"])) is None
    assert run_from_json({"command": "demo", **to_json(run)}) == run


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trainable": "x", "lora": LoraConfig(2)}, "exclude each other"),
        ({"trainable": "("}, r"--trainable: '\(' is no regular expression"),
        ({"lora": LoraConfig(2, targets="(")}, r"--lora: '\(' is no regular"),
    ],
)
def test_bad_options_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        refuse.check_options(dataclasses.replace(TINY, **fields))


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (LoraConfig(rank=-1), "--lora.rank is -1; it must be at least 0"),
        (LoraConfig(2, alpha=0.0), "--lora.alpha is 0.0; it must be above 0"),
        (LoraConfig(2, alpha=float("inf")), "--lora.alpha is inf"),
    ],
)
def test_bad_values_are_refused(lora, message):
    with pytest.raises(ValueError, match=message):
        check_run(dataclasses.replace(TINY, lora=lora))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (trainable(TINY, "upproj"), "--trainable: no parameter .* 'upproj' matches"),
        (with_lora(TINY, targets="nothing"), "--lora.targets: no parameter"),
        (with_lora(TINY, targets="norm"), "norm/scale has shape .* alone"),
        (
            dataclasses.replace(TINY, trainable="^norm", methods=("ofmu", "rmu")),
            "--trainable: rmu changes hidden states, on which norm/scale have no",
        ),
    ],
)
def test_a_part_that_the_model_lacks_is_refused_before_training(run, message):
    with pytest.raises(ValueError, match=message):
        refuse.check_part(domain_of(run).task, run)


def test_a_part_that_a_method_can_change_is_accepted():
    for run in (TINY, trainable(TINY, "embed|^norm"), with_lora(TINY)):
        run = dataclasses.replace(run, methods=("ofmu", "rmu"))
        refuse.check_part(domain_of(run).task, run)


def test_the_part_is_in_the_identity_of_unlearning_and_of_nothing_else():
    found = set()
    runs = (TINY, trainable(TINY), trainable(TINY, "up"), with_lora(TINY))
    for run in (*runs, with_lora(TINY, rank=3)):
        domain = domain_of(run)
        found.add(fingerprint(domain.unlearning("ofmu", 0, None, 2.0).made_from))
        assert domain.identity == domain_of(TINY).identity
    assert len(found) == 5


# --- from end to end ----------------------------------------------------------------


def weights(run, name):
    return load_file(run.output_dir / name / "seed0/hf/model.safetensors")


def marks(folder: pathlib.Path) -> dict[str, int]:
    found = folder.rglob("*.stage.json")
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in found}


@pytest.fixture(scope="module")
def in_a_subset(tmp_path_factory):
    """A finished run that changed down_proj alone, and its report."""
    run = trainable(dataclasses.replace(TINY, output_dir=tmp_path_factory.mktemp("x")))
    return run, execute(run)


@pytest.mark.slow
def test_exported_models_differ_from_the_target_in_the_part_alone(in_a_subset):
    run, content = in_a_subset
    target = weights(run, "target")
    for name in run.methods:
        found = weights(run, name)
        assert found.keys() == target.keys()
        changed = {k for k in found if found[k].tobytes() != target[k].tobytes()}
        assert changed == {k for k in found if "down_proj" in k}
        path = run.output_dir / name / "seed0/hf" / record.RECORD
        assert json.loads(path.read_text())["run"]["trainable"] == "down_proj"
    assert content["recipe"]["trainable"] == "down_proj"
    assert all(check.holds for check in verify.verify(verify.Verify(run.output_dir)))


@pytest.mark.slow
def test_adapters_are_merged_and_only_unlearning_is_redone(in_a_subset):
    run, content = in_a_subset
    before = marks(run.output_dir)
    of_adapters = with_lora(dataclasses.replace(run, trainable=None))
    execute(of_adapters)
    after = marks(run.output_dir)
    redone = {name.split("/")[0] for name in before if before[name] != after[name]}
    assert redone == set(run.methods)
    target = weights(run, "target")
    for name in run.methods:
        found = weights(run, name)
        for key in found:
            change = found[key] - target[key]
            if "_proj" not in key:
                assert not change.any()
                continue
            values = np.linalg.svd(change, compute_uv=False)
            assert values[0] > 1e-5 and values[2] < 1e-3 * values[0]  # of rank 2
    execute(of_adapters)
    assert marks(run.output_dir) == after
    again = execute(run)
    for old, new in zip(content["models"], again["models"], strict=True):
        assert old["metrics"] == new["metrics"]


@pytest.mark.slow
def test_on_a_mesh_and_in_micro_batches(tmp_path):
    """From a target that was not trained; the result is read back from its files."""
    run = with_lora(dataclasses.replace(TINY, output_dir=tmp_path))
    budget = dataclasses.replace(TINY.budget, gradient_evaluations=4, checks=1)
    run = dataclasses.replace(
        run, mesh="data=2,fsdp=2,tensor=2", grad_accum=2, budget=budget
    )
    pipeline = Pipeline(domain_of(run), Stages(disable=True))
    params = pipeline.domain.task.init_params(0)
    target = Model("target", "target", 0, params, "x", {}, tmp_path)
    model = pipeline.unlearned("npo", pipeline.start(0, target, None))
    assert model.record["updates"] == 2
    change = jax.tree.map(lambda a, b: np.asarray(a) - b, model.params, target.params)
    assert not change["embed_tokens"]["embedding"].any()
    for kernel in change["layers"]["down_proj"]["kernel"]:
        values = np.linalg.svd(kernel, compute_uv=False)
        assert values[0] > 1e-5 and values[2] < 1e-2 * values[0]  # of rank 2


@pytest.mark.slow
def test_trials_of_tuning_are_of_the_part(tmp_path):
    run = with_lora(dataclasses.replace(TINY, methods=("npo",), output_dir=tmp_path))
    content = execute(dataclasses.replace(run, tune=2, export=False))
    assert [trial["trial"] for trial in content["tuning"]["npo"]] == [0, 1]
    for trial in content["tuning"]["npo"]:
        assert trial["check"]["forget_nll"] > 0
