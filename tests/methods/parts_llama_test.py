"""Every method on a part of a small Llama: a subset, or low-rank adapters."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from cases import rest_long, rest_slow
from llamas import init_params
from losses_toys import FORGET
from parts_toys import CONFIG, DOWN, LORA, NAMES, batches

from experiments.config.language import Demo
from ofmu_jax.losses import likelihood
from ofmu_jax.methods import Lora, Subset
from ofmu_jax.methods.language.of_model import of_model
from ofmu_jax.models.llama.adapters import with_adapters
from ofmu_jax.models.llama.model import Llama, hidden_states
from ofmu_jax.parallel import sharding
from ofmu_jax.training import loop, placement
from ofmu_jax.training.snapshots import Snapshots

RUN = Demo()
ONE_SLOW = [DOWN, pytest.param(LORA, marks=pytest.mark.slow)]


@functools.cache
def llama():
    model = Llama(CONFIG)
    apply = lambda p, ids, mask: model.apply({"params": p}, ids, mask)
    hidden = lambda layer: functools.partial(hidden_states, CONFIG, layer)
    return apply, hidden, init_params(CONFIG, jax.random.key(0))


def unlearning(name, part, micro_batches=1):
    apply, hidden, _ = llama()
    config = RUN.config_of(name)
    return of_model(name, config, 60, apply, hidden, micro_batches, part)


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


@pytest.mark.parametrize("name", rest_slow(NAMES))
def test_every_method_changes_its_part_alone(name):
    method = unlearning(name, DOWN)
    again = unlearning(name, Subset("down_proj"))
    assert method.update.func is again.update.func  # equal parts, compiled once
    _, params = run(method, DOWN)
    assert changed(params) == ["layers/down_proj/kernel"]


@pytest.mark.parametrize("name", rest_long(NAMES, ["npo"]))
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
    """In a loop over layers: written out, XLA on a CPU has little to choose from."""
    looped = Llama(dataclasses.replace(CONFIG, scan_layers=True))
    apply = lambda p, ids, mask: looped.apply({"params": p}, ids, mask)
    params = llama()[2]
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
