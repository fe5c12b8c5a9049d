"""The mesh, the rules, and updates on eight simulated devices against one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import rest_slow
from jax.sharding import PartitionSpec as P
from llamas import init_params
from meshes import MESH, assert_equal_updates

from ofmu_jax import bilevel, methods
from ofmu_jax.data.language.batches import Shard, paired_batches, single_batches
from ofmu_jax.data.streams import Mapped
from ofmu_jax.losses import likelihood
from ofmu_jax.losses.accumulation import accumulated, answer_tokens, rows
from ofmu_jax.losses.bounded import ascended_loss
from ofmu_jax.methods.rules.blur import blur_direction
from ofmu_jax.models.llama.model import Llama, LlamaConfig, hidden_states
from ofmu_jax.parallel import sharding
from ofmu_jax.parallel.sharding import MeshError, make_mesh, parse_mesh, partition_spec
from ofmu_jax.training import loop, placement

CONFIG = LlamaConfig(
    vocab_size=30,  # a size that not every axis divides
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    initializer_range=0.3,
)
ROWS, LENGTH = 8, 6


@functools.cache
def model():
    llama = Llama(CONFIG)
    apply = lambda p, ids, mask: llama.apply({"params": p}, ids, mask)
    return apply, init_params(CONFIG, jax.random.key(0))


def language_rows(seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(30, size=(ROWS, LENGTH)).astype(np.int32)
    keep = np.arange(LENGTH) < rng.integers(3, LENGTH + 1, size=(ROWS, 1))
    batch = {
        "input_ids": ids,
        "labels": np.where(keep & (np.arange(LENGTH) > 0), ids, -100),
        "attention_mask": keep.astype(np.int32),
    }
    return batch


def stacked(count):
    """Batches (S, B, …) with everything that a method may want."""
    forget = [language_rows(i) for i in range(count)]
    for i, batch in enumerate(forget):
        rng = np.random.default_rng(100 + i)
        batch |= {
            "reference_nll": rng.uniform(2, 9, ROWS).astype(np.float32),
            "alternative": language_rows(50 + i),
            "alternative_reference_nll": rng.uniform(2, 9, ROWS).astype(np.float32),
            "target_nll": np.full(ROWS, 4.0, np.float32),
        }
    batches = {"forget": forget, "retain": [language_rows(9 + i) for i in range(count)]}
    stack = lambda parts: jax.tree.map(lambda *x: np.stack(x), *parts)
    return {name: stack(parts) for name, parts in batches.items()}


def baseline(name):
    apply, _ = model()
    hidden = functools.partial(hidden_states, CONFIG, 0)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9))
    return methods.build(name, methods.Setting(apply, optimizer, hidden, budget=12))


def ofmu(forget="target_cross_entropy", micro_batches=1, **options):
    apply, _ = model()
    retain = functools.partial(likelihood.cross_entropy, apply)
    return methods.ofmu_method(
        accumulated(ascended_loss(forget, apply), micro_batches, rows),
        accumulated(retain, micro_batches, answer_tokens),
        outer_optimizer=optax.sgd(0.1, 0.9),
        inner_optimizer=optax.sgd(0.1, 0.9),
        **{"inner_steps": 1, "beta": 0.3, "rho": 1e-2} | options,
    )


CHEAP = {"retain_direction": "frozen", "penalty_gradient": "secant"}
CASES = {
    "ofmu": lambda: ofmu(curvature="linearize", inner_steps=2, **CHEAP),
    "npo": lambda: baseline("npo"),
}
SLOW_CASES = {
    **{name: functools.partial(baseline, name) for name in methods.METHODS},
    "ofmu exact": lambda: ofmu(),
    "ofmu linearize": lambda: ofmu(curvature="linearize", base="outer"),
    "ofmu jvp": lambda: ofmu(curvature="jvp", **CHEAP),
    "ofmu squared": lambda: ofmu("simnpo", similarity="squared_cosine", **CHEAP),
    "ofmu clipped": lambda: ofmu("npo", penalty_clip=0.5, outer_steps=2, **CHEAP),
    "ofmu differences": lambda: ofmu(
        curvature="finite_difference", penalty_gradient="finite_difference"
    ),
    "ofmu in parts": lambda: ofmu(micro_batches=2, curvature="linearize", **CHEAP),
}


def test_a_mesh_that_a_slice_cannot_be_cut_into_is_refused(monkeypatch):
    def refuse(*args, **kwargs):
        raise NotImplementedError("Failed to find assignment for logical_axis_index 1.")

    monkeypatch.setattr(jax, "make_mesh", refuse)
    with pytest.raises(MeshError, match=r"'fsdp': 4.*Failed to find.*such as fsdp=-1"):
        make_mesh("data=2,fsdp=4")


@pytest.mark.parametrize("name", rest_slow(CASES, [n for n in CASES if n != "ofmu"]))
def test_update_is_that_of_one_device(name):
    method = CASES[name]()
    assert_equal_updates(method, model()[1], stacked(method.batches_per_update))


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW_CASES)
def test_every_update_is_that_of_one_device(name):
    method = SLOW_CASES[name]()
    tolerance = 1e-3 if "differences" in name else 1e-5
    batches = stacked(method.batches_per_update)
    assert_equal_updates(method, model()[1], batches, tolerance)


@pytest.mark.parametrize(
    "of_two",
    [
        bilevel.inner_product,
        bilevel.cosine,
        lambda a, b: bilevel.clip_to(a, bilevel.norm(b)),
        lambda a, b: bilevel.secant_product(a, b, a),
        blur_direction,
    ],
    ids=["inner product", "cosine", "clip", "secant", "blur"],
)
def test_no_gradient_is_gathered_whole_to_be_measured(of_two):
    mesh = make_mesh(MESH)
    shapes = {"q_proj": {"kernel": jax.ShapeDtypeStruct((3, 64, 32), jnp.float32)}}
    tree = sharding.outline(shapes, mesh)
    text = jax.jit(of_two).lower(tree, tree).compile().as_text()
    assert text is not None and "all-reduce" in text  # sums of scalars
    assert "all-gather" not in text


def test_bytes_per_device_fall_as_the_devices_of_fsdp():
    config = LlamaConfig(64, 64, 128, 1, 4, 4, 16)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    llama = Llama(config)
    apply = lambda p, ids, mask: llama.apply({"params": p}, ids, mask)
    loss = functools.partial(likelihood.cross_entropy, apply)
    method = methods.gradient_ascent(loss, optax.adam(1e-3))
    shape = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
    found = {}
    for devices in (1, 8):
        mesh = make_mesh(f"fsdp={devices}", jax.devices()[:devices])
        there = placement.on_mesh(method, mesh)
        state = jax.eval_shape(method.init, params)
        trees = [
            jax.tree.map(shape, x, sharding.shardings(x, mesh)) for x in (params, state)
        ]
        spread = placement.row_sharding(mesh, before=1)
        batch = jax.tree.map(functools.partial(shape, s=spread), stacked(1))
        step = jax.jit(there.update, donate_argnums=(0, 1))
        analysis = step.lower(*trees, batch).compile().memory_analysis()
        found[devices] = analysis
    one, eight = (found[n].argument_size_in_bytes for n in (1, 8))
    vectors = 3 * 4 * 3 * 64  # three norms, in θ and in two moments: replicated
    assert eight < one / 8 + vectors + 1000, (one, eight)
    # All of it is donated but the batch.
    assert found[8].alias_size_in_bytes > 0.9 * (one / 8)


def test_resnet_update_is_that_of_one_device():
    from ofmu_jax.methods.vision.classifier import Prepare
    from ofmu_jax.methods.vision.descent import train
    from ofmu_jax.methods.vision.setting import Setting
    from ofmu_jax.models.resnet import ResNetConfig, init_variables

    config = ResNetConfig("resnet8")
    variables = jax.jit(lambda: init_variables(config, jax.random.key(0), 8))()
    rng = np.random.default_rng(0)
    batches = {
        "retain": {
            "images": rng.integers(0, 256, (1, 8, 8, 8, 3)).astype(np.uint8),
            "labels": rng.integers(0, 10, (1, 8)).astype(np.int32),
            "forget": np.zeros((1, 8), bool),
            "draw": np.array([[3, 5]], np.uint32),
        }
    }
    nothing: list = [None, None]
    setting = Setting(config, Prepare(10, 1, True), *nothing, 8, 1.0)
    method = train(setting, 0.1, 1e-4, 8).method
    assert_equal_updates(method, variables, batches)


def test_training_on_a_mesh_ends_where_one_device_does():
    apply, params = model()
    loss = functools.partial(likelihood.cross_entropy, apply)
    method = methods.fine_tune(loss, optax.sgd(0.1))
    mesh = make_mesh("data=4,fsdp=2")

    def stream():
        return paired_batches(language_rows(0), language_rows(1), 8, 0, num_stack=1)

    one = loop.run(method, params, stream(), num_updates=3)
    placed = placement.placed(stream(), mesh)
    assert isinstance(placed, Mapped)
    many = loop.run(
        placement.on_mesh(method, mesh),
        sharding.place(params, mesh),
        placed,
        num_updates=3,
    )
    assert placed.get_state() == {"next_index": 3}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        one.params,
        many.params,
    )


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("layers/attention/q_proj/kernel", (3, 16, 8), P(None, "fsdp", "tensor")),
        ("layer_0/attention/q_proj/kernel", (16, 8), P("fsdp", "tensor")),
        ("layers/down_proj/kernel", (3, 8, 16), P(None, "tensor", "fsdp")),
        ("0/mu/layers/up_proj/bias", (3, 8), P(None, "tensor")),
        ("embed_tokens/embedding", (31, 16), P(None, "fsdp")),  # 31: no tensor
        ("layers/gate_proj/kernel", (3, 15, 8), P(None, None, "tensor")),
        ("layers/o_proj/kernel", (3, 5, 16), P(None, None, "fsdp")),
        ("layers/down_proj/kernel", (3, 8, 15), P(None, "tensor", None)),
        ("layers/input_norm/scale", (3, 16), P(None, None)),
        ("conv_stem/kernel", (3, 3, 3, 64), P(None, None, None, "fsdp")),
        ("head/kernel", (64, 10), P("fsdp", None)),
        ("head/bias", (10,), P()),
        ("count", (), P()),
    ],
)
def test_where_a_tensor_lies(path, shape, expected):
    assert partition_spec(path, shape, make_mesh(MESH)) == expected


def test_names_what_no_axis_divides():
    mesh = make_mesh("fsdp=8")
    tree = {"odd": jnp.zeros((3, 5)), "even": jnp.zeros((3, 8)), "b": jnp.zeros(5)}
    assert sharding.replicated(tree, mesh) == ["odd"]
    assert sharding.replicated(tree, make_mesh("data=8")) == []


def test_sizes_of_a_mesh():
    assert parse_mesh("tensor=2, data=-1") == {"data": -1, "fsdp": 1, "tensor": 2}
    assert dict(make_mesh("data=2,fsdp=-1").shape) == {
        "data": 2,
        "fsdp": 4,
        "tensor": 1,
    }
    assert placement.host_shard(make_mesh(MESH)) == Shard((0, 1, 2, 3), 4)


# The process of each device, in the order of the mesh: jax.make_mesh goes along the
# wires of a TPU slice, which leave a host and come back to it.
OWNERS = {
    "as numbered": ("data=2,fsdp=4", [0, 0, 1, 1, 2, 2, 3, 3]),
    "v5e:4x4, by halves": ("data=4,fsdp=2", [0, 1, 0, 1, 2, 3, 2, 3]),
    "v4:2x2x4, by halves": ("fsdp=8", [0, 1, 2, 3, 0, 1, 2, 3]),
    "a ring": ("fsdp=8", [0, 1, 1, 1, 1, 0, 0, 0]),
    "uneven": ("data=2,fsdp=4", [0, 0, 1, 0, 0, 0, 1, 0]),
    "the same rows twice": ("fsdp=4,tensor=2", [0, 1, 2, 3, 3, 2, 1, 0]),
    "some rows twice": ("fsdp=4,tensor=2", [0, 0, 0, 1, 1, 1, 0, 1]),
    "all rows everywhere": ("fsdp=2,tensor=4", [0, 1, 2, 3, 3, 2, 1, 0]),
    "one block": ("tensor=8", [0, 1, 2, 3, 3, 2, 1, 0]),
}


@pytest.mark.parametrize("name", OWNERS)
def test_a_process_makes_the_rows_of_its_devices(name):
    spec, owners = OWNERS[name]
    mesh = make_mesh(spec)
    lie = placement.row_sharding(mesh).devices_indices_map((ROWS,))
    tokens = np.arange(ROWS, dtype=np.int32)[:, None]
    batch = {"input_ids": tokens, "labels": tokens, "attention_mask": tokens}
    made = set()
    for process in set(owners):
        own = [
            d for d, p in zip(mesh.devices.flat, owners, strict=True) if p == process
        ]
        shard = placement.shard_of(own, mesh)
        stream = single_batches(batch, ROWS, 0, shuffle=False, shard=shard)
        rows = next(stream)["input_ids"][:, 0]
        held = np.concatenate([np.arange(ROWS)[lie[device]] for device in own])
        assert rows.tolist() == sorted(set(held.tolist()))
        made |= set(rows.tolist())
    assert made == set(range(ROWS))


def test_blocks_of_a_process_may_lie_apart():
    mesh = make_mesh("fsdp=8")
    own = [mesh.devices.flat[i] for i in (7, 0, 5, 6)]
    assert placement.shard_of(own, mesh) == Shard((0, 5, 6, 7), 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data=3", "8 devices"),
        ("data=3,fsdp=-1", "8 devices"),
        ("fsdp=-1,tensor=-1", "8 devices"),
        ("expert=8", "'expert'.*unknown"),
        ("data=4,data=2", "named twice"),
        ("data", "number of devices"),
        ("data=0", "number of devices"),
        ("fsdp=two", "number of devices"),
    ],
)
def test_refuses_a_mesh_that_cannot_be(text, message):
    with pytest.raises(MeshError, match=message):
        make_mesh(text)


def test_refuses_a_batch_that_the_devices_do_not_share_evenly():
    batches = {"retain": {"labels": np.zeros((1, 6, 4), np.int32)}}
    with pytest.raises(MeshError, match=r"the batch size is 6.*multiple of 4"):
        placement.place_batches(batches, make_mesh(MESH))
