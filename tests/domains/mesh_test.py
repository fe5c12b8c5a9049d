"""Flags that spread a run over devices, processes and micro-batches."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import real_folders
import safetensors.numpy
from processes import job

from experiments.config.language import BudgetConfig, Demo, EvalConfig, TrainConfig
from experiments.domains.language import mesh as scale
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.task import LanguageTask
from experiments.run import parse
from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.models.llama.model import LlamaConfig
from ofmu_jax.models.tensor_files import SINGLE
from ofmu_jax.parallel import sharding

RUN = Demo(
    train=TrainConfig(batch_size=16),
    budget=BudgetConfig(batch_size=8),
    evaluation=EvalConfig(batch_size=32),
)
TINY = (
    "demo --seeds 0 --people 6 --forget-people 1 --methods ofmu npo "
    "--model-size.hidden-size 32 --model-size.intermediate-size 64 "
    "--model-size.num-layers 1 --model-size.num-heads 2 --model-size.num-kv-heads 1 "
    "--train.epochs 2 --train.batch-size 16 --budget.gradient-evaluations 24 "
    "--budget.batch-size 8 --budget.checks 2 --budget.forget-target 3 "
    "--evaluation.batch-size 32 --evaluation.max-new-tokens 4 "
    "--evaluation.bootstrap 20"
).split()


def test_flags():
    run = parse("demo --mesh data=2,fsdp=4 --grad-accum 2 --coordinator auto".split())
    assert (run.mesh, run.grad_accum, run.coordinator) == ("data=2,fsdp=4", 2, "auto")
    assert (parse(["demo"]).mesh, parse(["demo"]).grad_accum) == (None, 1)


def test_without_a_mesh_nothing_is_placed():
    assert scale.mesh_of(RUN) is None


def test_the_mesh_of_a_run():
    run = dataclasses.replace(RUN, mesh="data=2,fsdp=2,tensor=2", grad_accum=2)
    assert dict(scale.mesh_of(run).shape) == {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grad_accum": 0}, "at least 1"),
        ({"grad_accum": 3}, "does not divide --train.batch-size 16"),
        (
            {"mesh": "data=8", "grad_accum": 2},
            "--budget.batch-size .* is 4",
        ),
        ({"mesh": "data=5"}, "8 devices"),
        ({"mesh": "data=8", "evaluation": EvalConfig(batch_size=4)}, "--evaluation"),
    ],
)
def test_refuses_what_does_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        scale.mesh_of(dataclasses.replace(RUN, **fields))


@pytest.mark.parametrize("size, whole", [(36, True), (32, False)])
def test_what_the_mesh_cannot_divide_is_named(size, whole):
    config = LlamaConfig(
        vocab_size=9 * size,
        hidden_size=size,
        intermediate_size=3 * size,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=size // 2,
    )
    mesh = scale.mesh_of(dataclasses.replace(RUN, mesh="fsdp=8"))
    no_text: list = [None, None, 8, RUN.evaluation]
    task = LanguageTask(config, *no_text, mesh=mesh)
    data = fictitious_people(0, 4, 1)
    printed = " ".join(LanguageDomain(RUN, data, "", task, {}, {})._whole_matrices())
    assert ("layers/down_proj/kernel" in printed) == whole
    assert ("every device holds them whole" in printed) == whole


def test_fresh_parameters_are_drawn_where_they_lie():
    """And are the ones that a single device draws."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
    )
    mesh = scale.mesh_of(dataclasses.replace(RUN, mesh="fsdp=4,tensor=2"))
    no_text: list = [None, None, 8, RUN.evaluation]
    one, many = (
        LanguageTask(config, *no_text, mesh=lies).init_params(3)
        for lies in (None, mesh)
    )
    wanted = sharding.shardings(one, mesh)
    for a, b, lie in zip(*map(jax.tree.leaves, (one, many, wanted)), strict=True):
        assert b.sharding.is_equivalent_to(lie, b.ndim)
        np.testing.assert_allclose(a, b, rtol=1e-6)


def flat(value, path=""):
    """Numbers of a JSON value by path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{path}/{key}")
    elif isinstance(value, bool | str | list) or value is None:
        return
    else:
        yield path, value


@pytest.mark.long
def test_two_processes_report_what_one_does(tmp_path):
    spread = ["--mesh", "data=2,fsdp=2", "--grad-accum", "2"]

    def command(folder, *more):
        return ["-m", "experiments.run", *TINY, *more, "--output-dir", str(folder)]

    def of_two(address, process):
        here = ["--coordinator", address, "--num-processes", "2"]
        return command(tmp_path / "two", *spread, *here, "--process-id", process)

    # Status 3: so small a model does not forget.
    job(lambda *_: command(tmp_path / "one"), count=1, statuses=(0, 3))
    first, second = job(of_two, devices=2, statuses=(0, 3))
    assert "Report:" in first
    lines = [x for x in second.splitlines() if not x.startswith("[Gloo]")]
    assert not lines  # one process prints, and writes
    one, two = (
        json.loads((tmp_path / name / "report.json").read_text())["models"]
        for name in ("one", "two")
    )
    assert [row["method"] for row in one] == [row["method"] for row in two]
    for a, b in zip(one, two, strict=True):
        found, expected = dict(flat(b["metrics"])), dict(flat(a["metrics"]))
        assert found.keys() == expected.keys()
        for name in ("/forget_heldout_Q_A_Prob", "/retain_heldout_Q_A_Prob"):
            np.testing.assert_allclose(found[name], expected[name], rtol=0.02)


@pytest.mark.long
def test_two_processes_hand_back_the_model_that_one_does(tmp_path):
    """A given one to the byte; an unlearned one to the last digit of bfloat16."""
    given = real_folders.FOLDERS["qwen"](tmp_path / "given")
    forget = real_folders.rows(
        tmp_path / "f.jsonl", ("Who is Ada?", "A writer."), ("Where?", "In Lund.")
    )
    retain = real_folders.rows(
        tmp_path / "r.jsonl", ("Who is Bo?", "A painter."), ("Where?", "In Rome.")
    )
    words = f"""-m experiments.run request --model {given} --forget-file {forget}
        --retain-file {retain} --methods grad_diff --seeds 0 --max-length 128
        --mesh fsdp=4 --moments-dtype bfloat16 --budget.gradient-evaluations 16
        --budget.batch-size 4 --budget.checks 1 --budget.forget-target none
        --evaluation.max-new-tokens 2 --evaluation.bootstrap 4
        --evaluation.batch-size 4 --grad-diff.learning-rate 1e-2""".split()

    def of_two(address, process):
        here = ["--coordinator", address, "--num-processes", "2"]
        out = ["--output-dir", str(tmp_path / "two")]
        return [*words, *out, *here, "--process-id", process]

    alone = [*words, "--output-dir", str(tmp_path / "one")]
    job(lambda *_: alone, count=1, devices=4, statuses=(0, 3))
    job(of_two, devices=2, statuses=(0, 3))
    contents = lambda folder: {x.name: x.read_bytes() for x in folder.iterdir()}
    assert contents(tmp_path / "two/target/seed0/hf") == contents(given)
    one, two = (
        safetensors.numpy.load_file(tmp_path / at / "grad_diff/seed0/hf" / SINGLE)
        for at in ("one", "two")
    )
    for name, tensor in one.items():
        a, b = (np.asarray(x, np.float32) for x in (tensor, two[name]))
        np.testing.assert_allclose(a, b, rtol=2**-7, atol=2**-9, err_msg=name)
