"""The programs in the README run as they stand there."""

import pathlib
import re

import chex
import jax
import jax.numpy as jnp

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_are_three_programs():
    assert len(PROGRAMS) == 3
    lines = [line for line in PROGRAMS[0].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_transform_in_a_loop():
    params = {"w": jnp.array([1.0, -1.0, 0.5])}
    loss = lambda p, x: jnp.mean((x @ p["w"] - 1) ** 2)
    names = {"params": params, "loss": loss}
    exec(PROGRAMS[0], names)
    batches = jax.random.normal(jax.random.key(0), (2, 6, 4, 3))
    new, state = names["step"](params, names["state"], *batches)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, params)
    chex.assert_tree_all_finite((new, state))
    assert not jnp.allclose(new["w"], params["w"])
    assert jnp.isclose(state.rho, 1e-3)


def test_an_nnx_model():
    names: dict = {}
    exec(PROGRAMS[1], names)
    assert int(names["state"].outer_iteration) == 10
    chex.assert_tree_all_finite(names["params"])
    assert jnp.allclose(names["model"].kernel[...], names["params"]["kernel"][...])


def test_adapters_of_a_dictionary():
    names: dict = {}
    exec(PROGRAMS[2], names)
    change = names["params"]["w"] - 1
    assert jnp.abs(change).max() > 1e-3
    chex.assert_trees_all_equal(names["params"]["b"], jnp.zeros(1))
