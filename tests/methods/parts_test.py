"""Methods on a part of the parameters: a subset, or low-rank adapters."""

import functools

import jax
import jax.numpy as jnp
import losses_toys as toys
import numpy as np
import optax
import pytest
from losses_toys import FORGET, REFUSAL, RETAIN

from experiments.config.language import Demo
from experiments.domains.language import method as build
from ofmu_jax import methods
from ofmu_jax.losses import likelihood
from ofmu_jax.methods import Adapter, Lora, Subset, of_part
from ofmu_jax.methods.ofmu import ofmu_method
from ofmu_jax.models.llama.adapters import with_adapters
from ofmu_jax.models.llama.model import Llama, LlamaConfig, hidden_states, init_params
from ofmu_jax.parallel import sharding
from ofmu_jax.training import loop, placement
from ofmu_jax.training.snapshots import Snapshots

EXTRA = {
    "reference_nll": np.array([3.0, 2.0], np.float32),
    "alternative": REFUSAL,
    "alternative_reference_nll": np.array([1.0, 4.0], np.float32),
    "target_nll": np.array([9.0, 9.0], np.float32),
}
RUN = Demo()
NAMES = ("ofmu", *methods.METHODS)
CONFIG = LlamaConfig(8, 8, 16, 2, 2, 1, 4)
DOWN = Subset("down_proj")
LORA = Lora(rank=2, alpha=4.0)
ONE_SLOW = [DOWN, pytest.param(LORA, marks=pytest.mark.slow)]


def batches(count):
    one = {"forget": FORGET | EXTRA, "retain": RETAIN}
    return jax.tree.map(lambda x: jnp.asarray(np.stack([x] * count)), one)


# --- a toy: the bigram table and a bias ---------------------------------------------


def toy(params, ids, mask):
    return toys.bigram(params, ids, mask) + params["bias"]


def toy_params():
    return {
        "table": jnp.asarray(toys.TABLE["table"], jnp.float32),
        "bias": jnp.array([0.1, -0.2, 0.3, 0.0]),
    }


def toy_method(name, lift=lambda f: f):
    apply, sgd = lift(toy), optax.sgd(0.1)
    if name != "ofmu":
        setting = methods.Setting(apply, sgd, hidden_fn=apply, budget=12)
        return methods.build(name, setting)
    loss = functools.partial(likelihood.cross_entropy, apply)
    return ofmu_method(
        loss, loss, outer_optimizer=sgd, inner_optimizer=sgd, inner_steps=2, rho=0.1
    )


def toy_run(method, params, *fixed, updates=2):
    state, step = method.init(params, *fixed), jax.jit(method.update)
    for _ in range(updates):
        rows = batches(method.batches_per_update)
        params, state, metrics = step(params, state, rows, *fixed)
    return params, state, metrics


@pytest.mark.parametrize("name", NAMES)
def test_all_parameters_are_the_plain_method(name):
    everything = Subset("")
    trainable, fixed = everything.split(toy_params())
    assert jax.tree.leaves(fixed) == []
    method = of_part(functools.partial(toy_method, name), everything.merge)
    plain = toy_method(name)
    expected = toy_run(plain, toy_params())
    found = toy_run(method, trainable, fixed)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert method.gradient_evaluations == plain.gradient_evaluations
    assert method.batches_per_update == plain.batches_per_update


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("ofmu", "blur")])
def test_without_norms_a_part_moves_as_it_does_in_the_whole(name):
    """One step of SGD on a weighted sum: each leaf goes along its own gradient."""
    some = Subset("^bias$")
    method = of_part(functools.partial(toy_method, name), some.merge)
    part, _, metrics = toy_run(method, *some.split(toy_params()), updates=1)
    whole, _, expected = toy_run(toy_method(name), toy_params(), updates=1)
    if name == "blur_rmu":  # the retain gradient is 0 at the start: no projection
        assert expected["retain_loss"] == 0
    np.testing.assert_allclose(part["bias"], whole["bias"], rtol=1e-6)
    assert part["table"] is None
    np.testing.assert_allclose(metrics["forget_loss"], expected["forget_loss"])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_fixed_is_an_argument_and_no_constant(name):
    some = Subset("^bias$")
    trainable, fixed = some.split(toy_params())
    method = of_part(functools.partial(toy_method, name), some.merge)
    state = method.init(trainable, fixed)
    rows = batches(method.batches_per_update)
    jaxpr = jax.make_jaxpr(method.update)(trainable, state, rows, fixed)
    assert sum(np.size(c) for c in jaxpr.consts) == 0
    sizes = {x.shape for x in jax.tree.leaves(state)}
    assert (4, 4) not in sizes  # no state of the table, nor a copy of it


def test_ofmu_of_a_part_has_the_norms_and_cosines_of_the_part():
    some = Subset("^bias$")
    method = of_part(functools.partial(toy_method, "ofmu"), some.merge)
    found = toy_run(method, *some.split(toy_params()), updates=1)[2]
    table = toy_params()["table"]
    alone = lambda f: lambda p, *more: f({"table": table, "bias": p["bias"]}, *more)
    only_bias = {"bias": toy_params()["bias"]}
    expected = toy_run(toy_method("ofmu", alone), only_bias, updates=1)[2]
    whole = toy_run(toy_method("ofmu"), toy_params(), updates=1)[2]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    assert abs(found["cosine"] - whole["cosine"]) > 1e-3


# --- split and merge ----------------------------------------------------------------


def test_split_and_merge_give_the_same_arrays_back():
    params = init_params(CONFIG, jax.random.key(0))
    trainable, fixed = DOWN.split(params)
    assert len(jax.tree.leaves(trainable)) == 1
    assert len(jax.tree.leaves(fixed)) == len(jax.tree.leaves(params)) - 1
    again = DOWN.merge(trainable, fixed)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, again, params))


def test_merged_adapters_are_the_target_at_the_start_bit_for_bit():
    params = init_params(CONFIG, jax.random.key(0))
    adapters, fixed = LORA.split(params, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, LORA.merge(adapters, fixed), params)
    assert fixed is params
    norms = lambda tree: tree["layers"]["input_norm"]["scale"]
    assert norms(LORA.merge(adapters, fixed)) is norms(params)


def test_adapters_have_the_shapes_and_the_scale_of_their_matrices():
    params = {"w": jnp.zeros((3, 400, 5), jnp.bfloat16), "norm": jnp.ones(5)}
    adapters, _ = Lora(7, targets="w").split(params, jax.random.key(3))
    assert adapters["norm"] is None
    a, b = adapters["w"]
    assert (a.shape, b.shape) == ((3, 400, 7), (3, 7, 5))
    assert a.dtype == b.dtype == jnp.float32
    assert not b.any()
    np.testing.assert_allclose(jnp.std(a) * 20, 1.0, rtol=0.03)  # 1 / √400
    again, _ = Lora(7, targets="w").split(params, jax.random.key(3))
    np.testing.assert_array_equal(a, again["w"].a)
    other, _ = Lora(7, targets="w").split(params, jax.random.key(4))
    assert not np.allclose(a, other["w"].a)
    assert not np.allclose(a[0], a[1])
    b = jnp.ones_like(b)
    merged = Lora(7, targets="w").merge({"norm": None, "w": Adapter(a, b)}, params)
    assert merged["w"].dtype == jnp.bfloat16


def test_two_steps_on_a_linear_model_by_hand():
    """L = y·g for y = x W: ∂L/∂W = xᵀ g = G, so ∂B = s Aᵀ G and ∂A = s G Bᵀ."""
    lora, rate = Lora(rank=2, alpha=6.0, targets="w"), 0.5
    x, g = np.array([[1.0, 2.0, -1.0]]), np.array([[0.5, -2.0]])
    params = {"w": jnp.ones((3, 2)), "c": jnp.ones(2)}
    adapters, fixed = lora.split(params, jax.random.key(5))
    loss = lambda p, _: jnp.sum((x @ p["w"] + p["c"]) * g)
    build = lambda lift: methods.gradient_ascent(lift(loss), optax.sgd(rate))
    method = of_part(build, lora.merge)
    rows, state = {"forget": jnp.zeros(1)}, method.init(adapters, fixed)
    found = adapters
    for _ in range(2):
        found, state, metrics = method.update(found, state, rows, fixed)
    a, b = np.asarray(adapters["w"].a, np.float64), np.zeros((2, 2))
    for _ in range(2):
        loss_before = ((x @ (np.ones((3, 2)) + 3 * a @ b) + 1) * g).sum()
        a, b = a - rate * 3 * x.T @ g @ b.T, b - rate * 3 * a.T @ x.T @ g
    np.testing.assert_allclose(found["w"].a, a, rtol=1e-5)
    np.testing.assert_allclose(found["w"].b, b, rtol=1e-5)
    np.testing.assert_allclose(metrics["forget_loss"], loss_before, rtol=1e-5)
    merged = lora.merge(found, fixed)
    np.testing.assert_allclose(merged["w"], 1 + 3 * a @ b, rtol=1e-5)
    np.testing.assert_array_equal(merged["c"], params["c"])


# --- a small Llama ------------------------------------------------------------------


@functools.cache
def llama():
    model = Llama(CONFIG)
    apply = lambda p, ids, mask: model.apply({"params": p}, ids, mask)
    hidden = lambda layer: functools.partial(hidden_states, CONFIG, layer)
    return apply, hidden, init_params(CONFIG, jax.random.key(0))


def unlearning(name, part, micro_batches=1):
    apply, hidden, _ = llama()
    config = RUN.method(name)
    return build.unlearning(name, config, 60, apply, hidden, micro_batches, part)


def run(method, part, updates=3):
    params = llama()[2]
    trainable, fixed = part.split(params, jax.random.key(1))
    rows = [batches(method.batches_per_update)] * updates
    before = jax.tree.map(np.asarray, params)
    result = loop.run(method, trainable, rows, num_updates=updates, fixed=fixed)
    assert result.finite, result.stopped
    jax.tree.map(np.testing.assert_array_equal, params, before)  # none was donated
    return result, part.merge(result.params, fixed)


def changed(params):
    names = []
    for (path, a), b in zip(
        jax.tree.leaves_with_path(params), jax.tree.leaves(llama()[2]), strict=True
    ):
        if np.asarray(a).tobytes() != np.asarray(b).tobytes():
            names.append(sharding.name_of(path))
    return names


@pytest.mark.parametrize("name", NAMES)
def test_every_method_changes_its_part_alone(name):
    method = unlearning(name, DOWN)
    assert method is unlearning(name, Subset("down_proj"))  # equal parts, compiled once
    _, params = run(method, DOWN)
    assert changed(params) == ["layers/down_proj/kernel"]


LORA_CASES = [
    pytest.param(n, marks=() if n == "ofmu" else pytest.mark.slow) for n in NAMES
]


@pytest.mark.parametrize("name", LORA_CASES)
def test_every_method_unlearns_in_adapters(name):
    _, params = run(unlearning(name, LORA), LORA)
    names = changed(params)
    assert len(names) == 7
    assert all(path.endswith("_proj/kernel") for path in names)


def test_states_have_leaves_of_the_part_alone():
    for part, size in ((DOWN, 1), (LORA, 14)):
        trainable, fixed = part.split(llama()[2])
        assert len(jax.tree.leaves(trainable)) == size
        state = unlearning("npo", part).init(trainable, fixed)
        shapes = sorted(x.shape for x in jax.tree.leaves(state) if x.ndim)
        assert shapes == sorted([x.shape for x in jax.tree.leaves(trainable)] * 2)


def random_adapters(lora, params):
    adapters, _ = lora.split(params, jax.random.key(1))
    key = jax.random.key(2)
    return jax.tree.map(lambda x: 0.3 * jax.random.normal(key, x.shape), adapters)


@pytest.mark.parametrize("targets", [LORA.targets, "embed_tokens|up_proj"])
def test_adapters_within_the_layers_are_the_merged_model(targets):
    lora = Lora(2, 4.0, targets)
    apply, hidden, params = llama()
    adapters = random_adapters(lora, params)
    inside = with_adapters(adapters, params, lora.scale)
    outside = lora.merge(adapters, params)
    for function in (apply, hidden(0)):
        rows = FORGET["input_ids"], FORGET["attention_mask"]
        found, expected = function(inside, *rows), function(outside, *rows)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert not np.allclose(found, function(params, *rows), atol=1e-2)


def test_adapters_within_the_layers_take_less_memory():
    apply, _, params = llama()
    adapters, fixed = LORA.split(params)
    loss = lambda p: likelihood.cross_entropy(apply, p, FORGET)
    bytes_of = {}
    inside = functools.partial(with_adapters, scale=LORA.scale)
    for name, merge in {"inside": inside, "merged": LORA.merge}.items():
        step = jax.jit(jax.grad(lambda a, f, merge=merge: loss(merge(a, f))))
        bytes_of[name] = loop.step_bytes(step.lower(adapters, fixed).compile())
    assert bytes_of["inside"] < bytes_of["merged"]


@pytest.mark.parametrize("part", ONE_SLOW, ids=["subset", "lora"])
def test_in_micro_batches_the_update_is_the_same(part):
    one, _ = run(unlearning("grad_diff", part), part, updates=2)
    two, _ = run(unlearning("grad_diff", part, 2), part, updates=2)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6)
    jax.tree.map(close, one.params, two.params)


@pytest.mark.parametrize("part", ONE_SLOW, ids=["subset", "lora"])
def test_on_a_mesh_the_update_is_the_same(part):
    mesh = sharding.make_mesh("data=1,fsdp=2,tensor=2", jax.devices()[:4])
    method = unlearning("npo", part)
    _, expected = run(method, part, updates=2)
    params = sharding.place(llama()[2], mesh)
    trainable, fixed = part.split(params, jax.random.key(1))
    trainable = sharding.place(trainable, mesh)
    there = placement.on_mesh(method, mesh)
    rows = [placement.place_batches(batches(1), mesh)] * 2
    result = loop.run(there, trainable, rows, num_updates=2, fixed=fixed)
    found = part.merge(result.params, fixed)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)
    assert sharding.replicated(params, mesh) == []
    for x in jax.tree.leaves(result.params):
        assert not x.sharding.is_fully_replicated


def test_adapters_are_cut_as_their_kernels_are():
    mesh = sharding.make_mesh("data=2,fsdp=2,tensor=2")
    spec = lambda path, *shape: tuple(sharding.partition_spec(path, shape, mesh))
    for name in ("q_proj", "gate_proj"):
        path = f"opt/0/mu/layers/attention/{name}/kernel"
        assert spec(f"{path}/a", 3, 8, 2) == (None, "fsdp", None)
        assert spec(f"{path}/b", 3, 2, 8) == (None, None, "tensor")
    for name in ("o_proj", "down_proj"):
        assert spec(f"layers/{name}/kernel/a", 3, 8, 2) == (None, "tensor", None)
        assert spec(f"layers/{name}/kernel/b", 3, 2, 8) == (None, None, "fsdp")


# --- bad input ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: Subset("upproj").split(p), "'upproj' matches; there are embed_tok"),
        (lambda p: Lora(2, targets="x").split(p), "'x' matches; there are"),
        (lambda p: Lora(2, targets="^norm").split(p), r"norm/scale has shape \(8,\)"),
        (lambda p: Subset("("), r"'\(' is no regular expression"),
        (lambda p: Lora(2, targets="["), "is no regular expression"),
        (lambda p: Lora(0), "rank=0 must be at least 1"),
        (lambda p: Lora(1, alpha=0.0), "alpha=0.0 must be above 0"),
        (lambda p: Lora(1, alpha=float("nan")), "alpha=nan"),
    ],
)
def test_bad_parts_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make(llama()[2])


# --- snapshots ----------------------------------------------------------------------


class _Killed(Exception):
    pass


@pytest.mark.parametrize("part", ONE_SLOW, ids=["subset", "lora"])
def test_a_run_goes_on_from_a_snapshot_of_the_part(part, tmp_path):
    method = unlearning("kl_minimization", part)
    params = llama()[2]
    trainable, fixed = part.split(params, jax.random.key(1))

    def fit(on_update=None, saver=None):
        rows = [batches(1)] * 5
        options = {"on_update": on_update, "saver": saver, "fixed": fixed}
        return loop.run(method, trainable, rows, num_updates=5, **options)

    def killed(done, _):
        if done == 3:
            raise _Killed

    saver = Snapshots(tmp_path / "progress", "same", every=2)
    with pytest.raises(_Killed):
        fit(killed, saver)
    saver.close()
    found, seen = Snapshots(tmp_path / "progress", "same", every=0), []
    restored = fit(lambda done, _: seen.append(done), found)
    found.close()
    kept = [path.name for path in (tmp_path / "progress").iterdir()]
    assert kept == ["000000002"]
    expected = fit()
    jax.tree.map(np.testing.assert_array_equal, restored.params, expected.params)
    assert restored.metrics == expected.metrics
    notes = found.restore(loop.Snapshot(0, *_like(method, trainable, fixed)))
    assert len(jax.tree.leaves(notes.params)) == len(jax.tree.leaves(trainable))


def _like(method, trainable, fixed):
    return trainable, method.init(trainable, fixed), None, {}, None
