"""The plan against what is known on paper, and against the step of a real run."""

import dataclasses
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from experiments.config.language import EvalConfig, LoraConfig, OfmuConfig
from experiments.config.refuse import check_run
from experiments.domains.language import job
from experiments.domains.language import method as build
from experiments.domains.language.task import LanguageTask
from experiments.pipeline.execute import cautions
from experiments.planning import architectures, estimate, hlo, table
from experiments.planning.table import Plan
from ofmu_jax.data.language.batches import paired_batches
from ofmu_jax.models.llama.model import LlamaConfig, init_params
from ofmu_jax.parallel import sharding
from ofmu_jax.training import loop, placement

CONFIG = LlamaConfig(
    vocab_size=512,
    hidden_size=32,
    intermediate_size=64,
    num_layers=3,
    num_heads=2,
    num_kv_heads=2,
    head_dim=16,
)
ROWS, LENGTH = 8, 16


def compiled(function, *shapes):
    return jax.jit(function).lower(*shapes).compile().as_text()


def shape(*sizes, sharding=None):
    return jax.ShapeDtypeStruct(sizes, jnp.float32, sharding=sharding)


# --- counts in a program ------------------------------------------------------------


def test_products_in_loops_count_as_often_as_they_run():
    def inner(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=5)[0]

    def outer(x, w):
        return jax.lax.scan(lambda x, _: (inner(x, w), None), x, length=3)[0]

    text = compiled(outer, shape(64, 128), shape(128, 128))
    found = hlo.counted(text, 1)
    assert found == hlo.Counts(15 * 2 * 64 * 128 * 128, {}, 0)


def test_a_loop_of_unknown_length_counts_once_and_says_so():
    def until(x, w):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w + 1, x)

    found = hlo.counted(compiled(until, shape(64, 64), shape(64, 64)), 1)
    assert (found.flops, found.unknown_loops) == (2 * 64**3, 1)


def test_a_loop_whose_condition_says_how_often_it_runs():
    text = """
%condition (p: (s32[], f32[8,8])) -> pred[] {
  %p = (s32[], f32[8,8]) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %n = s32[]{:T(128)} constant(16)
  ROOT %less = pred[]{:T(512)} compare(%i, %n), direction=LT
}
%body (p: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %p = (s32[], f32[8,8]) parameter(0)
  %x = f32[8,8] get-tuple-element(%p), index=1
  %y = f32[8,8] dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
ENTRY %main (s: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %s = (s32[], f32[8,8]) parameter(0)
  ROOT %w = (s32[], f32[8,8]) while(%s), condition=%condition, body=%body
}
"""
    assert hlo.counted(text, 1) == hlo.Counts(16 * 2 * 8**3, {}, 0)


def test_bytes_that_each_device_sends():
    mesh = sharding.make_mesh("fsdp=8")
    lie = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))

    def summed(x, w):  # of parts: an all-reduce in each of five rounds
        step = lambda x, _: (jnp.tanh(x @ w), None)
        return jax.lax.scan(step, x, length=5)[0]

    there = [shape(64, 64, sharding=lie(None, "fsdp"))]
    there += [shape(64, 64, sharding=lie("fsdp", None))]
    found = hlo.counted(compiled(summed, *there), 8)
    assert found.sent["all-reduce"] == 5 * 2 * 7 / 8 * 4 * 64 * 64

    gather = jax.jit(lambda x: x + 1, out_shardings=lie())
    text = gather.lower(shape(64, 64, sharding=lie("fsdp"))).compile().as_text()
    assert hlo.counted(text, 8).sent == {"all-gather": 7 * 4 * 64 * 64 / 8}


def test_a_product_that_a_tpu_writes_as_a_convolution():
    text = """
ENTRY %main (a: f32[32,16,8], b: f32[32,8,24]) -> f32[32,16,24] {
  %a = f32[32,16,8]{2,1,0:T(8,128)} parameter(0)
  %b = f32[32,8,24]{2,1,0:T(8,128)} parameter(1)
  ROOT %c = f32[32,16,24] convolution(%a, %b), dim_labels=0bf_0io->0bf
}
"""
    assert hlo.counted(text, 1).flops == 2 * 32 * 16 * 24 * 8


# --- models -------------------------------------------------------------------------

PUBLISHED = {  # parameters, as the files of the models have them
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "mistral-7b": 7_241_732_096,
}


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_sizes_are_the_published_ones(name):
    config = architectures.architecture(name)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    assert sum(x.size for x in jax.tree.leaves(params)) == PUBLISHED[name]


def test_a_folder_of_a_model(tmp_path):
    content = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(content))
    for path in (tmp_path, tmp_path / "config.json"):
        found = architectures.architecture(str(path))
        assert (found.hidden_size, found.head_dim) == (64, 16)
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')
    with pytest.raises(ValueError, match="no config of a model"):
        architectures.architecture(str(tmp_path))


# --- the step -----------------------------------------------------------------------


def task(mesh, **options):
    no_text: list = [None, None, LENGTH, table.run_of(Plan()).evaluation]
    return LanguageTask(CONFIG, *no_text, mesh=mesh, **options)


def real_rows(forget):
    rng = np.random.default_rng(0)
    ids = rng.integers(512, size=(2 * ROWS, LENGTH)).astype(np.int32)
    found = {"input_ids": ids, "labels": ids, "attention_mask": np.ones_like(ids)}
    for name in forget.keys() - found.keys():
        found[name] = np.full(2 * ROWS, 5.0, np.float32)
    return found


@pytest.mark.parametrize(
    ("name", "mesh", "options"),
    [
        ("npo", "data=2,fsdp=2,tensor=2", {}),
        pytest.param(
            "npo", "fsdp=8", {"lora": LoraConfig(rank=2)}, marks=pytest.mark.slow
        ),
        pytest.param("ofmu", "fsdp=8", {}, marks=pytest.mark.slow),
    ],
)
def test_a_plan_is_the_memory_of_a_real_run(name, mesh, options):
    mesh = sharding.make_mesh(mesh)
    run = table.run_of(Plan(batch_size=ROWS, length=LENGTH, methods=(name,), **options))
    found = estimate.estimate(name, run, task(mesh), LENGTH)
    method, _ = job.num_updates(name, run, task(mesh))
    shapes = estimate.shapes_of_batches(
        name, run, method.batches_per_update, LENGTH, mesh
    )
    stream = placement.placed(
        paired_batches(
            real_rows(shapes["forget"]),
            real_rows(shapes["retain"]),
            ROWS,
            0,
            num_stack=method.batches_per_update,
        ),
        mesh,
    )
    there = sharding.place(init_params(CONFIG, jax.random.key(0)), mesh)
    part, fixed, trained = build.part_of(run), None, there
    if part is not None:
        trained, fixed = part.split(there, jax.random.key(0))
        trained = sharding.place(trained, mesh)
    real = loop.run(
        placement.on_mesh(method, mesh),
        trained,
        stream,
        num_updates=1,
        check_every=1,
        fixed=fixed,
    )
    assert found.step == real.peak_bytes
    of_one = lambda tree: sum(
        x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree)
    )
    assert found.parameters == of_one((trained, fixed))
    assert found.run == found.step + estimate.KEPT * of_one(trained)
    assert found.flops > 0 and found.unknown_loops == 0


def test_parameters_and_products_on_paper():
    """Of one step of gradient ascent, on a mesh that divides every matrix."""
    mesh = sharding.make_mesh("fsdp=8")
    run = table.run_of(
        Plan(batch_size=ROWS, length=LENGTH, methods=("gradient_ascent",))
    )
    found = estimate.estimate("gradient_ascent", run, task(mesh), LENGTH)
    norms = 32 * (2 * 3 + 1)  # whole on every device
    layer = 32 * (4 * 32 + 3 * 64)
    matrices = 3 * layer + 512 * 32
    assert found.parameters == 4 * (matrices / 8 + norms)
    assert found.state == 2 * found.parameters + 8  # two moments; AdamW and rate count
    # Of the table of embeddings, which is the largest: a slice; all of it and a block.
    assert found.host_load == 4 * 512 * 32 // 8
    assert found.host_export == 2 * 4 * 512 * 32
    assert found.batch == 2 * 3 * 4 * LENGTH  # a forget and a retain row, three fields
    assert found.run == found.step + 2 * found.parameters
    # Forward, and twice that backward; scores and mixing of attention beside it.
    attention = 3 * 2 * LENGTH**2 * 32 * 2
    assert found.flops == 3 * (2 * matrices * LENGTH + attention)
    # Matrices travel, activations do not: gathered forward and backward, gradients
    # summed. (All rows' activations of a layer are 5 times its matrices here.)
    least = 7 / 8 * 4 * matrices
    assert 3 * least < sum(found.sent.values()) < 5.5 * least


def test_moments_in_bfloat16_are_half_of_the_state():
    mesh = sharding.make_mesh("fsdp=8")
    sizes = []
    for dtype in ("float32", "bfloat16"):
        run = table.run_of(Plan(methods=("gradient_ascent",), moments_dtype=dtype))
        method, _ = job.num_updates("gradient_ascent", run, task(mesh))
        state = jax.eval_shape(method.init, task(mesh).outline())
        sizes.append(estimate.bytes_per_device(sharding.outline(state, mesh)))
    assert sizes[0] - 8 == 2 * (sizes[1] - 8)  # but for the counts of updates


def test_less_is_kept_with_chunks():
    mesh = sharding.make_mesh("data=1", jax.devices()[:1])
    run = table.run_of(
        Plan(batch_size=ROWS, length=LENGTH, methods=("gradient_ascent",))
    )
    big = dataclasses.replace(CONFIG, vocab_size=8192)
    of = lambda **o: estimate.estimate(
        "gradient_ascent", run, dataclasses.replace(task(mesh, **o), config=big), LENGTH
    )
    whole, parts = of(), of(loss_chunk=4)
    assert parts.temporaries < 0.6 * whole.temporaries
    assert whole.temporaries > ROWS * LENGTH * 8192 * 4  # the logits


def test_bytes_of_a_base_in_nf4_on_paper():
    """4.5 bits an entry of the projections, two bytes of the rest; what a check takes
    has no dense copy."""
    mesh = sharding.make_mesh("data=1", jax.devices()[:1])
    lora = LoraConfig(2, base="nf4")
    plan = Plan(batch_size=ROWS, length=LENGTH, methods=("gradient_ascent",), lora=lora)
    wide = dataclasses.replace(CONFIG, hidden_size=64, head_dim=32)
    there = dataclasses.replace(task(mesh, quantized=True), config=wide)
    found = estimate.estimate("gradient_ascent", table.run_of(plan), there, LENGTH)
    kernels = 3 * (4 * 64 * 64 + 3 * 64 * 64)
    rest = 512 * 64 + 64 * (2 * 3 + 1)
    adapters = 3 * 7 * 2 * (64 + 64) * 4
    assert found.parameters == kernels * (1 / 2 + 4 / 64) + 2 * rest + adapters
    assert found.state == 2 * adapters + 8
    assert found.run == found.step + 2 * adapters
    assert "LoRA of rank 2 beside NF4" in table.title(plan)


# --- the command --------------------------------------------------------------------


def test_rows_of_a_plan():
    names = [(name, *o.values()) for name, _, o in table.variants(Plan())]
    assert len(names) == 10 and ("ofmu", "lookahead", "carried") in names
    norm = dataclasses.replace(Plan().ofmu, penalty="gradient_norm")
    names = [(name, *o.values()) for name, _, o in table.variants(Plan(ofmu=norm))]
    assert len(names) == 15 and ("ofmu", "linearize", "secant") in names
    plain = dataclasses.replace(Plan().ofmu, beta=0.0, rho=0.0)
    found = list(table.variants(Plan(methods=("npo", "ofmu"), ofmu=plain)))
    assert [name for name, *_ in found] == ["npo", "ofmu"]  # nothing to choose


def test_the_command(tmp_path, capsys):
    content = {"model_type": "llama", "vocab_size": 64, "hidden_size": 32}
    content |= {"intermediate_size": 32, "num_hidden_layers": 1}
    content |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(content))
    options = ["--model", str(tmp_path), "--batch-size", "8", "--length", "8"]
    options += ["--method", "gradient_ascent", "grad_diff", "--mesh", "fsdp=4"]
    options += ["--device-bytes", "1", "--json", str(tmp_path / "plan.json")]
    assert table.main(options) == 0
    shown = capsys.readouterr().out
    assert "grad_diff" in shown and "fits" in shown and " no " in shown
    found = json.loads((tmp_path / "plan.json").read_text())
    first, second = found["rows"]
    assert first["parameters"] == second["parameters"] > 0
    assert second["flops"] == 2 * first["flops"]
    assert found["plan"]["mesh"] == "fsdp=4"


def test_a_check_may_take_more_than_the_step():
    """Of 64 rows with all their logits, where the step has 8 rows in chunks."""
    mesh = sharding.make_mesh("data=1", jax.devices()[:1])
    big = dataclasses.replace(CONFIG, vocab_size=8192)
    task_of = lambda **o: dataclasses.replace(task(mesh, loss_chunk=4, **o), config=big)
    planned = Plan(batch_size=ROWS, length=LENGTH, device_bytes=1.0)
    run = table.run_of(planned)
    of = lambda task: estimate.estimate("gradient_ascent", run, task, LENGTH)
    found = of(task_of())
    logits = 64 * 32 * 8192 * 4  # rows are padded to 32 tokens at least
    least = found.run - found.temporaries + logits
    assert max(found.run, least) < found.check < least + 4 * logits
    few = EvalConfig(batch_size=8)
    assert of(dataclasses.replace(task_of(), evaluation=few)).check < found.check / 2
    fits = lambda size: table.cells(
        dataclasses.replace(planned, device_bytes=size),
        table.Row("gradient_ascent", {}, found, None),
        None,
    )[-1]
    assert fits(found.run) == "no" and fits(found.check) == "yes"


def test_differences_in_bfloat16_have_a_note():
    ours = dataclasses.replace(Plan().ofmu, beta=0.0)
    options = {"curvature": "finite_difference", "penalty_gradient": "secant"}
    row = table.Row("ofmu", options, None, "too big")
    for planned, noted in (
        (Plan(dtype="bfloat16"), True),
        (Plan(), False),
        (Plan(dtype="bfloat16", ofmu=ours), False),  # not in effect
    ):
        notes = [str(note) for note in table.table(planned, [row]).renderables[1:]]
        assert any("noise in bfloat16" in note for note in notes) == noted


def test_what_runs_in_bfloat16():
    ours = OfmuConfig(beta=0.1, rho=0.1, penalty_gradient="secant", curvature="jvp")
    run = table.run_of(Plan(dtype="bfloat16", ofmu=ours))
    check_run(run)
    assert ["secant" in note for note in cautions(run)] == [True]
    for other in (
        dataclasses.replace(run, dtype="float32"),
        dataclasses.replace(run, methods=("npo",)),
        run.with_method("ofmu", dataclasses.replace(ours, rho=0.0)),
    ):
        assert not cautions(other)
    names = "curvature", "penalty_gradient"
    noisy: dict[str, Any] = dict.fromkeys(names, "finite_difference")
    off = dataclasses.replace(ours, beta=0.0, rho=0.0, **noisy)
    check_run(run.with_method("ofmu", off))  # neither has any effect
    both = dataclasses.replace(ours, **noisy)
    check_run(dataclasses.replace(run, dtype="float32", ofmu=both))
    check_run(dataclasses.replace(run, methods=("npo",), ofmu=both))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--model gpt-5", "'gpt-5' is no folder with a config.json"),
        ("--mesh fsdp=-1", "give the number in place of -1"),
        ("--mesh fsdp=3", "does not use|devices do not share evenly"),
        ("--mesh fsdp=4096", "plan in a process of its own"),
        ("--mesh pipeline=2", "'pipeline'.*unknown"),
        ("--grad-accum 3", "--grad-accum 3 does not divide --batch-size 16"),
        ("--length 999999", "--length 999999 is more than"),
        ("--ofmu.beta nan", "--ofmu.beta is nan"),
        ("--trainable conv1", "--trainable: no parameter has a path that 'conv1'"),
        ("--lora.rank -1", "--lora.rank is -1; it must be at least 0"),
    ],
)
def test_refuses_what_cannot_be(options, words, capsys):
    assert table.main(options.split()) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "error:" in shown and re.search(words, shown), shown
