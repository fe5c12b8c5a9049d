"""The residual stream: against the model itself, and exchanged between two."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from llamas import hidden_states, init_params

from ofmu_jax.models.llama import streams
from ofmu_jax.models.llama.model import Llama, LlamaConfig

TINY = LlamaConfig(17, 8, 12, 3, 2, 1, 4, initializer_range=0.5)
CONFIGS = {
    "tied": TINY,
    "untied": dataclasses.replace(TINY, tie_word_embeddings=False),
    "window": dataclasses.replace(TINY, sliding_window=2, scan_layers=False),
    "bfloat16": dataclasses.replace(TINY, dtype=jnp.bfloat16),
}
IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)


def made(config, seed=0):
    return init_params(config, jax.random.key(seed))


@pytest.mark.parametrize("name", CONFIGS)
def test_each_layer_is_that_of_the_model_and_the_last_makes_its_logits(name):
    config = CONFIGS[name]
    params = made(config)
    found = streams.residuals(config, params, IDS, MASK)
    assert found.shape == (3, 2, 5, 8) and found.dtype == config.dtype
    # What is fused is rounded elsewhere: bfloat16 has 1/32 between values of 4 to 8.
    near = 0.2 if name == "bfloat16" else 1e-5
    for layer in range(config.num_layers):
        expected = hidden_states(config, layer, params, IDS, MASK)
        np.testing.assert_allclose(
            found[layer].astype(np.float32), expected.astype(np.float32), atol=near
        )
    logits = jax.jit(Llama(config).apply)({"params": params}, IDS, MASK)
    decoded = streams.decoded(config, params, found[-1])
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, np.asarray(logits), atol=near)


def exchanged(where, config=TINY):
    own, other = made(config), made(config, seed=1)
    both = [streams.residuals(config, p, IDS, MASK) for p in (own, other)]
    return *both, streams.exchanged(config, own, *both, jnp.asarray(where), MASK)


def test_an_exchange_of_nothing_leaves_the_model_as_it_is():
    own, _, found = exchanged(np.zeros(IDS.shape, bool))
    for layer in found:
        np.testing.assert_allclose(layer, own[-1], atol=1e-5)


def test_an_exchange_after_the_last_layer_is_the_other_model_there_alone():
    where = np.zeros(IDS.shape, bool)
    where[0, 2:4] = True
    own, other, found = exchanged(where)
    np.testing.assert_array_equal(found[-1][where], other[-1][where])
    np.testing.assert_array_equal(found[-1][~where], own[-1][~where])


def test_an_exchange_after_an_earlier_layer_reaches_what_comes_later_alone():
    """By hand: the other model's stream there, then this model's own layers."""
    where = np.zeros(IDS.shape, bool)
    where[0, 2] = True
    own, _, found = exchanged(where)
    np.testing.assert_allclose(found[0][0, :2], own[-1][0, :2], atol=1e-5)
    np.testing.assert_allclose(found[0][1], own[-1][1], atol=1e-5)
    assert np.all(np.abs(found[0][0, 3:] - own[-1][0, 3:]).max(-1) > 1e-3)
    # All places after layer 0: what the other model's first layer and this one's other
    # two make together.
    mixed = jax.tree.map(
        lambda a, b: jnp.concatenate([b[:1], a[1:]]),
        made(TINY)["layers"],
        made(TINY, seed=1)["layers"],
    )
    params = {**made(TINY), "layers": mixed}
    params["embed_tokens"] = made(TINY, seed=1)["embed_tokens"]
    _, _, found = exchanged(np.ones(IDS.shape, bool))
    expected = hidden_states(TINY, 2, params, IDS, MASK)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
