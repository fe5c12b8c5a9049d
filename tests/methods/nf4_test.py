"""Every method in adapters beside a Llama in NF4: as beside the dense matrices."""

import functools

import jax
import numpy as np
import optax
import pytest
from cases import rest_long
from jax.sharding import PartitionSpec
from losses_toys import FORGET
from nf4_toys import CONFIG, llama
from parts_toys import NAMES, batches

from experiments.config.language import Demo, Request
from ofmu_jax import methods
from ofmu_jax.losses import likelihood
from ofmu_jax.methods import Unmerged
from ofmu_jax.methods.language.of_model import of_model
from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.model import Llama, hidden_states
from ofmu_jax.parallel import sharding
from ofmu_jax.training import loop, placement
from ofmu_jax.training.snapshots import Snapshots

PART = Unmerged(rank=2, alpha=4.0)
RATE = 1e-2


def apply(params, ids, mask):
    return Llama(CONFIG).apply({"params": params}, ids, mask)


def hidden_fn_of(layer):
    return functools.partial(hidden_states, CONFIG, layer)


@functools.cache
def base():
    return nf4.quantized(llama())


def dense(params):
    made = lambda x: nf4.dequantize(x) if nf4.is_nf4(x) else x
    return jax.tree.map(made, params, is_leaf=nf4.is_nf4)


def unlearning(name, run=Demo):
    config = run().config_of(name)
    return of_model(name, config, 60, apply, hidden_fn_of, 1, PART)


def begun(part, params):
    """Adapters that already change the model, and the rest."""
    adapters, fixed = part.split(params, jax.random.key(1))
    return jax.tree.map(lambda x: x + 0.1, adapters), fixed


def run(method, params, part=PART, updates=2, **options):
    trainable, fixed = begun(part, params)
    rows = [batches(method.batches_per_update)] * updates
    return loop.run(
        method, trainable, rows, num_updates=updates, fixed=fixed, **options
    )


@pytest.mark.parametrize("name", rest_long(NAMES, ["npo"]))
def test_every_method_does_what_it_does_beside_the_dense_matrices(name):
    method = unlearning(name)
    found, expected = run(method, base()), run(method, dense(base()))
    for ours, theirs in zip(found.metrics, expected.metrics, strict=True):
        for key, value in theirs.items():
            assert np.isfinite(value), key
            np.testing.assert_allclose(ours[key], value, rtol=1e-3, err_msg=key)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5)
    jax.tree.map(close, found.params, expected.params)


def test_the_default_recipe_of_a_request_moves_the_adapters():
    method = unlearning("ofmu", Request)
    result = run(method, base(), updates=1)
    said = {k: v for k, v in result.metrics[-1].items() if k != "cosine"}  # β = 0
    assert np.isfinite(list(said.values())).all()
    before, _ = begun(PART, base())
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), result.params, before)
    assert all(x > 0 for x in jax.tree.leaves(moved))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_loss_falls_and_rises_as_it_should(dtype):
    part = Unmerged(2, 4.0, dtype=dtype)
    loss = lambda p, batch: likelihood.cross_entropy(apply, p, batch)
    measured = jax.jit(loss)  # op by op, each is a program
    adapters, fixed = part.split(base(), jax.random.key(1))
    here = float(measured(part.merge(adapters, fixed), FORGET))
    assert here == float(measured(base(), FORGET))  # B is zero at the start
    ends = {}
    falling = lambda lift: methods.fine_tune(lift(loss), optax.adam(RATE))
    minus = lambda p, batch: -loss(p, batch)
    rising = lambda lift: methods.gradient_ascent(lift(minus), optax.adam(RATE))
    for role, build in {"retain": falling, "forget": rising}.items():
        method = methods.of_part(build, part.merge)
        rows = [{role: jax.tree.map(lambda x: x[None], FORGET)}] * 20
        result = loop.run(method, adapters, rows, num_updates=20, fixed=fixed)
        assert {x.dtype.name for x in jax.tree.leaves(result.params)} == {dtype}
        ends[role] = float(measured(part.merge(result.params, fixed), FORGET))
    assert ends["retain"] < here - 0.5 and ends["forget"] > here + 0.5


def test_on_a_mesh_the_update_is_the_same():
    method = unlearning("npo")
    expected = run(method, base())
    mesh = sharding.make_mesh("data=2,fsdp=2,tensor=2")
    params = sharding.place(base(), mesh)
    trainable, fixed = begun(PART, params)
    trainable = sharding.place(trainable, mesh)
    there = placement.on_mesh(method, mesh)
    rows = [placement.place_batches(doubled(batches(1)), mesh)] * 2
    result = loop.run(there, trainable, rows, num_updates=2, fixed=fixed)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5)
    jax.tree.map(close, result.params, expected.params)
    kernel = params["layers"]["down_proj"]["kernel"]
    assert kernel.codes.sharding.spec == PartitionSpec(None, "tensor", "fsdp")
    assert kernel.codes.addressable_shards[0].data.shape == (2, 16, 32)
    for x in jax.tree.leaves(PART.merge(result.params, fixed)["layers"]["down_proj"]):
        assert not x.sharding.is_fully_replicated


def doubled(rows):
    """Each row twice: as many as the mesh has places, and the same means."""
    return jax.tree.map(lambda x: np.repeat(x, 2, axis=1), rows)


class _Killed(Exception):
    pass


def test_snapshots_hold_adapters_alone_and_a_run_goes_on_from_them(tmp_path):
    method = unlearning("grad_diff")

    def killed(done, _):
        if done == 3:
            raise _Killed

    saver = Snapshots(tmp_path / "progress", "same", every=2)
    with pytest.raises(_Killed):
        run(method, base(), updates=4, on_update=killed, saver=saver)
    saver.close()
    size = sum(
        p.stat().st_size for p in (tmp_path / "progress").rglob("*") if p.is_file()
    )
    again = Snapshots(tmp_path / "progress", "same", every=0)
    restored = run(method, base(), updates=4, saver=again)
    again.close()
    jax.tree.map(
        np.testing.assert_array_equal,
        restored.params,
        run(method, base(), updates=4).params,
    )
    state = again.restore(loop.Snapshot(0, *_like(method)))
    names = jax.tree.leaves((state.params, state.state))
    assert not any(x.dtype == np.uint8 for x in names)
    assert size < 10**6


def _like(method):
    trainable, fixed = begun(PART, base())
    return trainable, method.init(trainable, fixed), None, {}, None
