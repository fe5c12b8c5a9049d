"""Numbers are arguments of what is compiled: trials and seeds share one program."""

import dataclasses
import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import vision_toys
from cases import rest_slow
from compilations import counted
from losses_toys import TABLE, bigram
from parts_toys import LORA, NAMES, batches

from experiments.config.language import Demo, TrainConfig
from experiments.domains.language.method import fine_tuning
from experiments.pipeline.search import trials, with_values
from ofmu_jax import methods
from ofmu_jax.methods import Range, schedules, traced
from ofmu_jax.methods.language.of_model import of_model
from ofmu_jax.methods.vision import registry
from ofmu_jax.parallel.sharding import make_mesh, place
from ofmu_jax.training import loop, placement

RUN = Demo()
HIDDEN = functools.cache(lambda layer: bigram)


def shifted(config, factor=1.25):
    """Every number that is not 0 times a factor."""
    rest, numbers = traced.split(config)
    return traced.filled(rest, (factor * x for x in numbers))


def run(method, start, rows, fixed=None):
    found = loop.run(method, start, [rows] * 2, num_updates=2, fixed=fixed)
    assert found.finite
    return found.params


# --- language -------------------------------------------------------------------------


@pytest.mark.parametrize("name", rest_slow(NAMES))
def test_trials_of_a_method_share_a_program_and_compute_what_constants_do(name):
    with jax.enable_x64(True):
        start = jax.tree.map(jnp.asarray, TABLE)
        space = methods.METHODS[name].search.items()
        numbers = {path: span for path, span in space if isinstance(span, Range)}
        config, *more = trials(RUN.config_of(name), numbers, 3)
        if name == "undial":  # whose α is 0 and leaves the retain loss out
            config = with_values(config, {"loss.alpha": 1.0})
        more.append(shifted(config))
        made = lambda config: of_model(name, config, 60, bigram, HIDDEN)
        rows = batches(made(config).batches_per_update)
        results = [run(made(config), start, rows)]
        with counted() as compiled:
            results += [run(made(other), start, rows) for other in more]
        assert not compiled
        tables = {result["table"].tobytes() for result in map(jax.device_get, results)}
        assert len(tables) == 1 + len(more)  # the numbers do count

        setting = methods.Setting(bigram, None, bigram, 60)
        constant = methods.build(name, setting, more[-1])
        expected = run(constant, start, rows)["table"]
        np.testing.assert_allclose(results[-1]["table"], expected, rtol=1e-12)


def test_a_zero_is_another_program_without_the_term():
    config = RUN.config_of("ofmu")
    program = lambda **changed: of_model(
        "ofmu", dataclasses.replace(config, **changed), 60, bigram
    )
    assert program().update.func is program(beta=0.7, rho=0.3).update.func
    for zero in ("beta", "rho"):
        without = program(**{zero: 0.0})
        assert without.update.func is not program().update.func
        costly = {"curvature": "jvp", "penalty_gradient": "exact"}
        fewer, all_ = program(**costly, **{zero: 0.0}), program(**costly)
        assert fewer.gradient_evaluations < all_.gradient_evaluations


def test_the_number_of_updates_and_the_scale_of_adapters_are_numbers():
    pdu = lambda budget: of_model("pdu", RUN.config_of("pdu"), budget, bigram)
    assert pdu(60).update.func is pdu(90).update.func
    npo = lambda alpha: of_model(
        "npo",
        RUN.config_of("npo"),
        60,
        bigram,
        part=dataclasses.replace(LORA, alpha=alpha),
    )
    assert npo(4.0).update.func is npo(8.0).update.func
    assert npo(4.0).update.keywords != npo(8.0).update.keywords


def test_targets_and_references_are_trained_by_one_program():
    start = jax.tree.map(jnp.asarray, TABLE)
    rows = batches(1)
    run(fine_tuning(bigram, TrainConfig(), 10), start, rows)
    other = TrainConfig(learning_rate=1e-4, weight_decay=0.2, warmup_fraction=0.4)
    with counted() as compiled:
        run(fine_tuning(bigram, other, 25), start, rows)
    assert not compiled


def test_trials_on_a_mesh_share_a_program():
    mesh = make_mesh("data=2", jax.devices()[:2])
    config = RUN.config_of("npo")

    def trial(config):
        method = placement.on_mesh(of_model("npo", config, 60, bigram), mesh)
        start = place(jax.tree.map(jnp.asarray, TABLE), mesh)
        return run(method, start, placement.place_batches(batches(1), mesh))

    first = trial(config)
    with counted() as compiled:
        second = trial(shifted(config))
    assert not compiled
    assert np.any(np.asarray(first["table"]) != np.asarray(second["table"]))


def test_a_type_is_not_promoted_by_a_number():
    start = {"table": jnp.asarray(TABLE["table"], jnp.bfloat16)}
    method = of_model("grad_diff", shifted(RUN.config_of("grad_diff")), 60, bigram)
    found, state, _ = loop.Step(method)(start, method.init(start), batches(1))
    assert found["table"].dtype == jnp.bfloat16
    assert optax.tree.get(state, "mu")["table"].dtype == jnp.bfloat16


def test_what_is_dropped_takes_its_program_with_it():
    def loss(params, ids, mask):
        return bigram(params, ids, mask)

    start = jax.tree.map(jnp.asarray, TABLE)
    method = of_model("npo", RUN.config_of("npo"), 60, loss)
    run(method, start, batches(1))
    held = weakref.ref(method.update.func)
    del method
    traced._program.cache_clear()
    gc.collect()
    assert held() is None


# --- images ---------------------------------------------------------------------------

IMAGES = [n for n in registry.METHODS if n not in vision_toys.ONE_SHOT]


@pytest.mark.parametrize("name", rest_slow(IMAGES, ["l1_sparse", "ofmu"]))
def test_trials_seeds_and_requests_on_images_share_a_program(name):
    config = vision_toys.CONFIGS[name]
    seen = vision_toys.SETTING
    few = seen.retain.take(np.arange(8))
    other = seen._replace(seed=1, retain=few, budget=55.0, forget_target=1.3)
    plans = [
        registry.build(name, seen, config),
        registry.build(name, other, shifted(config, 0.8)),
    ]
    stack = plans[0].method.batches_per_update
    parts = {n: vision_toys.stacked(seen.forget, True, stack) for n in ("forget",)}
    parts |= {n: vision_toys.stacked(few, False, stack) for n in ("retain", "union")}
    starts = [plan.start(vision_toys.variables()) for plan in plans]
    first = run(plans[0].method, starts[0], parts)
    with counted() as compiled:
        second = run(plans[1].method, starts[1], parts)
    assert not compiled
    assert np.any(first.params["head"]["kernel"] != second.params["head"]["kernel"])


# --- schedules ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            schedules.warmup_cosine(0.3, 3.0, 11.0),
            optax.warmup_cosine_decay_schedule(0.0, 0.3, 3, 11),
        ),
        (schedules.exponential(0.3, 1.1), optax.exponential_decay(0.3, 1, 1.1)),
        (
            schedules.stepwise(0.3, 4.0, 7.0),
            optax.piecewise_constant_schedule(0.3, {4: 0.1, 7: 0.1}),
        ),
    ],
)
def test_schedules_are_those_of_optax(ours, theirs):
    steps = jnp.arange(15)
    np.testing.assert_allclose(
        jax.vmap(ours)(steps), jax.vmap(theirs)(steps), rtol=3e-7, atol=1e-8
    )
