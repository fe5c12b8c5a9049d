"""The command with --lora.base nf4 and --lora.export-adapter."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import real_folders
from safetensors.numpy import load_file

from experiments.config.language import Demo, LoraConfig, OfmuConfig, Request
from experiments.deletion import check as verify
from experiments.domains.language import adapters, method, refuse
from experiments.run import main, parse
from experiments.stages.files import fingerprint
from ofmu_jax.methods import Lora, Unmerged
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.model import Llama
from ofmu_jax.training import checkpoint

NF4 = LoraConfig(2, base="nf4")
GIVEN = Request(model="./m", methods=("npo",), lora=NF4)


# --- options ------------------------------------------------------------------------


def test_options_reach_the_part():
    words = "request --model m --lora.rank 4 --lora.base nf4 --lora.dtype bfloat16"
    run = parse(words.split())
    assert run.lora == LoraConfig(4, dtype="bfloat16", base="nf4")
    assert method.part_of(run) == Unmerged(4, dtype="bfloat16")
    run = parse("request --model m --lora.rank 4 --lora.export-adapter".split())
    assert method.part_of(run) == Unmerged(4)
    run = parse("request --model m --lora.rank 4".split())
    assert method.part_of(run) == Lora(4)
    assert fingerprint(method.part_of(run)) != fingerprint(Unmerged(4, alpha=1.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lora": LoraConfig(base="nf4")}, "--lora.base nf4 goes .* --lora.rank 16"),
        ({"lora": LoraConfig(dtype="bfloat16")}, "--lora.dtype bfloat16 goes with"),
        ({"lora": LoraConfig(export_adapter=True)}, "--lora.export-adapter True goes"),
        ({"lora": LoraConfig(base="nf4"), "trainable": "x"}, "--lora.rank 16"),
        ({"trainable": "x"}, "exclude each other"),
        ({"model": None}, "--lora.base nf4 is of a model that is there: give --model"),
        (
            {"model": None, "lora": LoraConfig(2, export_adapter=True)},
            "--lora.export-adapter is of a model",
        ),
        ({"base_model": "b"}, "--lora.base nf4 and --base-model b exclude"),
        (
            {
                "lora": dataclasses.replace(NF4, dtype="bfloat16"),
                "methods": ("ofmu",),
                "ofmu": OfmuConfig(beta=1.0, curvature="finite_difference"),
            },
            "less than --lora.dtype bfloat16 can tell",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(fields, message):
    with pytest.raises(ValueError, match=message):
        refuse.check_options(dataclasses.replace(GIVEN, **fields))


def test_a_model_that_is_trained_here_has_no_4_bits():
    with pytest.raises(ValueError, match="give --model"):
        refuse.check_options(Demo(lora=NF4))


def test_sizes_that_blocks_do_not_divide_are_refused(tmp_path):
    given = real_folders.qwen(tmp_path / "given")  # 32 wide
    run = dataclasses.replace(GIVEN, model=str(given))
    with pytest.raises(ValueError, match=r"--lora.base nf4: .*no multiple of 64"):
        adapters.load(run, str(given), None)


def test_the_form_of_the_base_is_in_the_identity():
    assert GIVEN.rounding == ("nf4",)
    assert dataclasses.replace(GIVEN, lora=LoraConfig(2)).rounding == ()


def test_layers_are_in_a_loop_unless_told_otherwise():
    """Written out, XLA for CPUs has all of them dense at once."""
    scan = lambda **o: dataclasses.replace(GIVEN, **o).computation["scan_layers"]
    assert scan() is True
    assert scan(scan_layers=False) is False
    assert scan(lora=LoraConfig(2)) is None


# --- from end to end ----------------------------------------------------------------

IDS = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])


def logits(params, config):
    config = dataclasses.replace(config, dtype="float32")
    return np.asarray(Llama(config).apply({"params": params}, IDS))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(the folder given, the run's), after a request in NF4 of a bfloat16 model."""
    with pytest.MonkeyPatch.context() as patch:
        wide = {"hidden_size": 64, "intermediate_size": 128}
        patch.setattr(real_folders, "_SIZES", real_folders._SIZES | wide)
        folder = tmp_path_factory.mktemp("nf4")
        given = real_folders.qwen(folder / "given")
    pairs = [("Where was Ada born?", "In Lund."), ("Who is Ada?", "A writer.")]
    forget = real_folders.rows(folder / "forget.jsonl", *pairs)
    pairs = [("Where is Rome?", "In Italy."), ("Who is Bo?", "A painter.")]
    retain = real_folders.rows(folder / "retain.jsonl", *pairs)
    words = f"""request --model {given} --forget-file {forget} --retain-file {retain}
        --output-dir {folder / "out"} --methods grad_diff --seeds 0 --max-length 128
        --budget.gradient-evaluations 8 --budget.batch-size 2 --budget.checks 1
        --budget.forget-target none --evaluation.max-new-tokens 2
        --evaluation.bootstrap 4 --evaluation.batch-size 2
        --grad-diff.learning-rate 1e-2 --lora.rank 2 --lora.base nf4
        --lora.export-adapter"""
    assert main(words.split()) in (0, 3)  # random weights know nothing
    return given, folder / "out"


@pytest.mark.slow
def test_both_exports_give_the_answers_that_were_scored(done):
    given, out = done
    config, params = huggingface.load_pretrained(given)
    base = nf4.quantized(params)
    part = Unmerged(2)
    like = jax.eval_shape(part.split, base)[0]
    folder = out / "grad_diff/seed0"
    trained = checkpoint.restore(folder / "training/checkpoint", like)
    expected = logits(part.merge(trained, base), config)
    moved = np.abs(expected - logits(base, config)).max()
    assert moved > 0.05

    merged = huggingface.load_pretrained(folder / "hf")[1]
    np.testing.assert_allclose(logits(merged, config), expected, atol=1e-3 * moved)
    target = huggingface.load_pretrained(out / "target/seed0/hf")[1]
    np.testing.assert_allclose(
        logits(target, config), logits(base, config), atol=1e-3 * moved
    )
    found = load_file(folder / "hf/adapter/adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_{}.weight"
    a, b = (found[name.format(kind)] for kind in "AB")
    change = 16.0 / 2 * (b @ a).T
    kernels = [tree["layers"]["up_proj"]["kernel"][1] for tree in (merged, target)]
    np.testing.assert_allclose(kernels[0] - kernels[1], change, atol=1e-6)


@pytest.mark.slow
def test_the_record_holds_and_says_what_the_model_is(done):
    _, out = done
    assert all(found.holds for found in verify.verify(verify.Verify(out)))
    folder = out / "grad_diff/seed0/hf"
    record = json.loads((folder / "deletion.json").read_text())
    assert any("NF4" in note for note in record["notes"])
    assert record["run"]["lora"]["base"] == "nf4"
    assert record["model"]["dtypes"].keys() == {"float32"}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert "NF4" in (folder / "adapter/README.md").read_text()
    assert "NF4" in (out / "target/seed0/hf/README.md").read_text()
    content = json.loads((folder / "adapter/adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == "given"  # and not where it lies
