"""The Llama module against values of transformers' PyTorch models, and itself."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import optax
import pytest
from llamas import init_params

from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama.model import (
    Llama,
    LlamaConfig,
    RopeScaling,
    hidden_states,
    init_cache,
    rope_frequencies,
)

TINY = LlamaConfig(
    vocab_size=17,
    hidden_size=8,
    intermediate_size=12,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    initializer_range=0.5,
)


def quick_jit(fn):
    """Compiles high derivatives of a tiny model in half the time."""
    return jax.jit(fn, compiler_options={"xla_backend_optimization_level": 0})


# Whole functions are compiled: op by op, each would be fifty programs.
@functools.partial(jax.jit, static_argnums=0, static_argnames="last_only")
def apply(model, params, *args, **options):
    return model.apply({"params": params}, *args, **options)


states_of = jax.jit(hidden_states, static_argnums=(0, 1))


class Golden(NamedTuple):
    """A model, and what transformers' PyTorch model computes with its weights."""

    model: Llama
    params: dict
    arrays: dict  # the stored values
    forward: Callable  # (ids, mask) -> logits, compiled once


@pytest.fixture(scope="module", params=families.FAMILIES)
def golden(request, tmp_path_factory):
    """One family, read by `load_pretrained`."""
    described, arrays = families.load_fixture(request.param)
    folder = families.write_golden(
        tmp_path_factory.mktemp("golden") / request.param, described
    )
    config, params = huggingface.load_pretrained(folder)
    forward = functools.partial(apply, Llama(config), params)
    return Golden(Llama(config), params, arrays, forward)


@pytest.mark.parametrize("mask_name", families.MASKS)
def test_logits_equal_transformers(golden, mask_name):
    mask, arrays = families.MASKS[mask_name], golden.arrays
    logits = golden.forward(families.input_ids(), mask)
    chex.assert_type(logits, jnp.float32)
    chex.assert_shape(logits, arrays[f"logits_{mask_name}"].shape)
    seen = families.visible(mask)
    np.testing.assert_allclose(
        logits[seen], arrays[f"logits_{mask_name}"][seen], atol=1e-4, rtol=0
    )


def test_cache_equals_full_forward(golden):
    """A prompt at once, then one token at a time, with padding on the left."""
    model, params = golden.model, golden.params
    ids, mask = families.input_ids(), families.MASKS["left"]
    positions = np.maximum(np.cumsum(mask, -1) - 1, 0)
    whole = golden.forward(ids, mask, positions)

    cache = init_cache(model.config, *ids.shape)
    step = jax.jit(
        lambda cache, *inputs: model.apply({"params": params}, *inputs, cache=cache)
    )
    parts, start = [], 0
    for end in (6, *range(7, ids.shape[1] + 1)):
        part = slice(start, end)
        logits, cache = step(cache, ids[:, part], mask[:, part], positions[:, part])
        parts.append(logits)
        start = end
    seen = families.visible(mask)
    np.testing.assert_allclose(
        jnp.concatenate(parts, 1)[seen], whole[seen], atol=1e-4, rtol=0
    )


def test_last_only(golden):
    """The last row of the whole result, after filling a cache."""
    model, params = golden.model, golden.params
    ids, mask = families.input_ids(), families.MASKS["left"]
    whole = golden.forward(ids, mask)
    cache = init_cache(model.config, *ids.shape)
    last, _ = apply(model, params, ids, mask, None, cache, last_only=True)
    np.testing.assert_allclose(last, whole[:, -1:], atol=1e-4)


def test_bfloat16_is_close(golden):
    model = Llama(dataclasses.replace(golden.model.config, dtype="bfloat16"))
    logits = apply(model, golden.params, families.input_ids())
    chex.assert_type(logits, jnp.float32)
    expected = golden.arrays["logits_full"]
    error = np.sqrt(np.mean((logits - expected) ** 2))
    assert 0 < error < 0.05 * np.std(expected)  # bfloat16 has 8 bits


@pytest.fixture(scope="module")
def tiny():
    return init_params(TINY, jax.random.key(0))


def test_parameters_are_float32_and_stacked(tiny):
    chex.assert_tree_all_finite(tiny)
    assert {x.dtype for x in jax.tree.leaves(tiny)} == {jnp.dtype("float32")}
    for leaf in jax.tree.leaves(tiny["layers"]):
        assert leaf.shape[0] == TINY.num_layers
    first, second = tiny["layers"]["attention"]["q_proj"]["kernel"]
    assert not np.allclose(first, second)


def test_later_tokens_and_masked_keys_change_nothing(tiny):
    """Logits up to position 3 do not depend on tokens after it or on masked ones."""
    ids = np.arange(6)[None]
    mask = np.array([[1, 0, 1, 1, 1, 1]])
    other = ids.copy()
    other[:, [1, 4, 5]] = 16
    model = Llama(TINY)
    a, b = (apply(model, tiny, x, mask)[:, [0, 2, 3]] for x in (ids, other))
    np.testing.assert_array_equal(a, b)
    c = apply(model, tiny, other)[:, [0, 2, 3]]
    assert not np.allclose(a[:, 1:], c[:, 1:])  # unmasked, the token does count


def test_padding_on_the_left_shifts_nothing(tiny):
    ids = np.array([[3, 4, 5]])
    padded, mask = np.array([[0, 0, 3, 4, 5]]), np.array([[0, 0, 1, 1, 1]])
    model = Llama(TINY)
    alone = apply(model, tiny, ids)
    beside = apply(model, tiny, padded, mask, np.array([[0, 0, 0, 1, 2]]))
    np.testing.assert_allclose(alone, beside[:, 2:], atol=1e-5)


@pytest.mark.parametrize("window", [None, 2])
def test_wholly_masked_rows_are_finite(tiny, window):
    model = Llama(dataclasses.replace(TINY, sliding_window=window))
    mask = np.array([[0, 0, 0, 0], [0, 0, 0, 1]])

    def loss(params):
        return jnp.sum(model.apply({"params": params}, np.ones((2, 4), int), mask) ** 2)

    chex.assert_tree_all_finite(quick_jit(jax.value_and_grad(loss))(tiny))


def third_derivative(model, params):
    """∇ of ‖(∇² L) v‖² along fixed v: what the exact outer gradient takes."""
    ids = np.array([[1, 5, 2, 9, 3]])
    mask = np.array([[1, 1, 0, 1, 1]])

    def loss(params):
        logits = model.apply({"params": params}, ids, mask)[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, ids[:, 1:]
        ).mean()

    def curvature(params, direction):
        return jax.jvp(jax.grad(loss), (params,), (direction,))[1]

    def bend(params, direction):
        return optax.tree.norm(curvature(params, direction), squared=True)

    direction = optax.tree.random_like(jax.random.key(1), params)
    return quick_jit(jax.value_and_grad(bend))(params, direction), bend, direction


@pytest.mark.slow
def test_remat_changes_no_derivative_up_to_the_third(tiny):
    (value, gradient), *_ = third_derivative(Llama(TINY), tiny)
    remat = Llama(dataclasses.replace(TINY, remat="full"))
    (remat_value, remat_gradient), bend, direction = third_derivative(remat, tiny)
    chex.assert_tree_all_finite(gradient)
    assert value > 0 and optax.tree.norm(gradient) > 0
    np.testing.assert_allclose(value, remat_value, rtol=1e-5)
    chex.assert_trees_all_close(gradient, remat_gradient, rtol=1e-3, atol=1e-3)

    # and the third derivative is that of the function: a central difference along it
    unit = optax.tree.scale(1 / optax.tree.norm(gradient), gradient)
    step, bend = 3e-4, quick_jit(bend)
    up, down = (
        bend(optax.tree.add_scale(tiny, sign * step, unit), direction)
        for sign in (1, -1)
    )
    np.testing.assert_allclose(
        (up - down) / (2 * step), optax.tree.norm(gradient), rtol=2e-3
    )


def test_vjp_and_linearize_of_the_gradient_agree(tiny):
    """Reverse over reverse and forward over reverse, under remat."""
    model = Llama(dataclasses.replace(TINY, remat="full"))
    ids = np.array([[1, 5, 2]])
    loss = lambda p: jnp.mean(model.apply({"params": p}, ids) ** 2)
    direction = optax.tree.random_like(jax.random.key(2), tiny)
    forward = quick_jit(lambda p, v: jax.linearize(jax.grad(loss), p)[1](v))
    reverse = quick_jit(lambda p, v: jax.vjp(jax.grad(loss), p)[1](v)[0])
    forward, reverse = forward(tiny, direction), reverse(tiny, direction)
    chex.assert_trees_all_close(forward, reverse, rtol=1e-3, atol=1e-4)


def test_llama3_frequencies():
    """Short wavelengths are kept, long ones divided by the factor."""
    plain = LlamaConfig(head_dim=64, rope_theta=5e5)
    scaled = dataclasses.replace(plain, rope_scaling=RopeScaling(factor=32.0))
    ratio = rope_frequencies(scaled) / rope_frequencies(plain)
    np.testing.assert_allclose(ratio[0], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[-1], 1 / 32, rtol=1e-5)
    assert np.all(np.diff(ratio) <= 1e-7)
    assert np.any((ratio > 0.05) & (ratio < 0.95))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_heads": 3, "num_kv_heads": 2}, "num_heads=3 .* num_kv_heads=2"),
        ({"head_dim": 5}, "head_dim=5"),
        ({"num_layers": 0}, "num_layers=0 must be at least 1"),
    ],
)
def test_impossible_shapes_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TINY, **fields)


def test_hidden_states_are_what_the_head_reads(tiny):
    """Norm and tied head on the last layer's output are the logits; layers beyond
    the asked one play no part."""
    ids, mask = np.array([[1, 5, 2, 9]]), np.array([[1, 0, 1, 1]])
    last = states_of(TINY, TINY.num_layers - 1, tiny, ids, mask)
    chex.assert_shape(last, (1, 4, TINY.hidden_size))
    rms = jnp.sqrt(jnp.mean(last**2, -1, keepdims=True) + TINY.rms_norm_eps)
    normed = last / rms * tiny["norm"]["scale"]
    logits = apply(Llama(TINY), tiny, ids, mask)
    np.testing.assert_allclose(
        normed @ tiny["embed_tokens"]["embedding"].T, logits, atol=1e-5
    )
    broken = jax.tree.map(lambda x: x.at[1].set(jnp.nan), tiny["layers"])
    first = states_of(TINY, 0, {**tiny, "layers": broken}, ids, mask)
    chex.assert_tree_all_finite(first)
    with pytest.raises(ValueError, match="layer 2 is not one of the model's 2 layers"):
        hidden_states(TINY, 2, tiny, ids, mask)
