"""A step of a deep model is compiled in less than a minute, its layers being a loop."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import pytest

from experiments.config.language import Request
from experiments.planning.architectures import architecture
from ofmu_jax.methods.language.of_model import of_model
from ofmu_jax.models.llama.model import Llama, init_params
from ofmu_jax.training.loop import Step

TERMS = {"beta": 0.1, "rho": 0.01, "curvature": "finite_difference"}


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{}, TERMS], ids=["default", "both terms"])
def test_a_step_of_32_layers_compiles_in_a_minute(changed):
    config = dataclasses.replace(architecture("llama-3.2-1b"), num_layers=32)
    apply_fn = lambda p, ids, mask: Llama(config).apply({"params": p}, ids, mask)
    recipe = dataclasses.replace(Request().ofmu, **changed)
    method = of_model("ofmu", recipe, 300, apply_fn)
    params = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    shape = (method.batches_per_update, 8, 512)
    tokens = jax.ShapeDtypeStruct(shape, jnp.int32)
    batch = dict.fromkeys(("input_ids", "labels", "attention_mask"), tokens)
    goal = {"target_nll": jax.ShapeDtypeStruct(shape[:2], jnp.float32)}
    batches = {"forget": batch | goal, "retain": batch}
    start = time.perf_counter()
    Step(method).lower(params, jax.eval_shape(method.init, params), batches).compile()
    assert time.perf_counter() - start < 60
