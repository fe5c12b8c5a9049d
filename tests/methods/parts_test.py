"""Methods on a part of the parameters: a subset, or low-rank adapters."""

import functools

import jax
import jax.numpy as jnp
import losses_toys as toys
import numpy as np
import optax
import pytest
from cases import rest_slow
from llamas import init_params
from parts_toys import CONFIG, DOWN, LORA, NAMES, batches

from ofmu_jax import methods
from ofmu_jax.losses import likelihood
from ofmu_jax.methods import Adapter, Lora, Subset, of_part
from ofmu_jax.methods.ofmu import ofmu_method
from ofmu_jax.methods.parts import subset
from ofmu_jax.parallel import sharding

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


plain_method = functools.cache(toy_method)  # and compiled once


def toy_run(method, params, *fixed, updates=2):
    state, step = method.init(params, *fixed), jax.jit(method.update)
    for _ in range(updates):
        rows = batches(method.batches_per_update)
        params, state, metrics = step(params, state, rows, *fixed)
    return params, state, metrics


@pytest.mark.parametrize("name", rest_slow(NAMES))
def test_all_parameters_are_the_plain_method(name):
    everything = Subset("")
    trainable, fixed = everything.split(toy_params())
    assert jax.tree.leaves(fixed) == []
    method = of_part(functools.partial(toy_method, name), everything.merge)
    plain = plain_method(name)
    expected = toy_run(plain, toy_params())
    found = toy_run(method, trainable, fixed)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert method.gradient_evaluations == plain.gradient_evaluations
    assert method.batches_per_update == plain.batches_per_update


# Of what follows norms or inner products of all parameters, a part is something else.
MEASURED = ("ofmu", "blur", "pcgrad", "gru", "ngdiff", "hamu", "saul", "npo_sam")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in MEASURED])
def test_without_norms_a_part_moves_as_it_does_in_the_whole(name):
    """One step of SGD on a weighted sum: each leaf goes along its own gradient."""
    some = Subset("^bias$")
    method = of_part(functools.partial(toy_method, name), some.merge)
    part, _, metrics = toy_run(method, *some.split(toy_params()), updates=1)
    whole, _, expected = toy_run(plain_method(name), toy_params(), updates=1)
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
    whole = toy_run(plain_method("ofmu"), toy_params(), updates=1)[2]
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
        (lambda p: Subset("(" * 9999 + ")" * 9999), "is no regular expression"),
        (lambda p: Subset("a{99999999999}"), "is no regular expression"),
        (lambda p: Lora(2, targets="["), "is no regular expression"),
        (lambda p: Lora(0), "rank=0 must be at least 1"),
        (lambda p: Lora(1, alpha=0.0), "alpha=0.0 must be above 0"),
        (lambda p: Lora(1, alpha=float("nan")), "alpha=nan"),
    ],
)
def test_bad_parts_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make(init_params(CONFIG, jax.random.key(0)))


@pytest.mark.parametrize("part", [Subset("([a-z/]+)+!"), Lora(2, targets="(.+)+!")])
def test_a_pattern_that_never_ends_is_named(part, monkeypatch):
    """Repeats within repeats: 2^30 ways to cut a path of 31 letters."""
    monkeypatch.setattr(subset, "SECONDS", 0.3)
    params = {"layers": {"attention": {"kernel" + "l" * 14: jnp.ones((1, 1))}}}
    with pytest.raises(ValueError, match=r"\+\)\+!' cannot be held against the 1 path"):
        part.split(params)
