"""Attention, and layers in a loop or written out: one function, several programs."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from llamas import init_params

from ofmu_jax.losses import likelihood
from ofmu_jax.models.llama import attention, cache
from ofmu_jax.models.llama.model import Llama, LlamaConfig, hidden_states

CONFIG = LlamaConfig(
    vocab_size=23,
    hidden_size=12,
    intermediate_size=16,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=4,
)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def params():
    return init_params(CONFIG, jax.random.key(0))


def batch():
    rng = np.random.default_rng(0)
    ids = rng.integers(CONFIG.vocab_size, size=(2, 7), dtype=np.int32)
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    return {
        "input_ids": ids,
        "labels": np.where(mask, ids, -100),
        "attention_mask": mask,
    }


def loss_of(**how):
    model = Llama(dataclasses.replace(CONFIG, **how))
    apply_fn = lambda p, *more: model.apply({"params": p}, *more)
    return functools.partial(likelihood.cross_entropy, apply_fn)


# --- attention --------------------------------------------------------------------


def test_is_jaxs_own_attention():
    query, key, value = (
        normal(0, 2, 6, 5, 4),
        normal(1, 2, 2, 5, 4),
        normal(2, 2, 2, 5, 4),
    )
    places = jnp.broadcast_to(jnp.arange(5), (2, 5))
    seen = attention.visible(CONFIG, places, jnp.ones((2, 5), bool))
    by_place = lambda x: x.swapaxes(1, 2)
    theirs = jax.nn.dot_product_attention(
        *map(by_place, (query, key, value)), is_causal=True
    )
    ours = attention.attend(query, key, value, seen)
    chex.assert_trees_all_close(ours, by_place(theirs), atol=1e-6)


def test_three_queries_share_a_key_head():
    """Of six heads the first three read key-value head 0, the others head 1."""
    query, key = jnp.zeros((1, 6, 1, 4)), jnp.zeros((1, 2, 1, 4))
    value = jnp.stack([jnp.full((1, 4), 10.0), jnp.full((1, 4), 20.0)])[None]
    found = attention.attend(query, key, value, jnp.ones((1, 1, 1), bool))
    assert found[0, :, 0, 0].tolist() == [10, 10, 10, 20, 20, 20]


def test_a_query_that_sees_nothing_gets_the_mean():
    value = jnp.arange(4.0).reshape(1, 1, 4, 1)
    zeros = jnp.zeros((1, 1, 4, 1))
    found = attention.attend(zeros, zeros, value, jnp.zeros((1, 4, 4), bool))
    chex.assert_trees_all_close(found, jnp.full((1, 1, 4, 1), 1.5))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", [1, 3])
def test_attention_to_cached_keys(length, dtype):
    """A single query goes another way, to the same result."""
    query = normal(0, 2, 6, length, 4).astype(dtype)
    key, value = (normal(i, 2, 2, 5, 4).astype(dtype) for i in (1, 2))
    seen = jax.random.bernoulli(jax.random.key(3), 0.6, (2, length, 5))
    expected = attention.attend(query, key, value, seen)
    found = cache.attend(query, key.swapaxes(-1, -2), value, seen)
    assert found.dtype == dtype
    close = functools.partial(chex.assert_trees_all_close, found, expected)
    close(atol=1e-6) if dtype == "float32" else close(atol=2e-2)


@pytest.mark.parametrize("loop", [False, True])
def test_each_row_of_a_cache_fills_its_own_slots(loop):
    """Rows of two lengths go on where each ends, in a loop over layers and without."""
    config = dataclasses.replace(CONFIG, scan_layers=loop)
    model, ids = Llama(config), batch()["input_ids"]
    apply = functools.partial(jax.jit(model.apply), {"params": params()})
    whole = apply(ids)
    empty = cache.init_cache(config, 2, 8)
    _, filled = apply(ids[:, :4], cache=empty)
    filled = filled._replace(length=jnp.array([4, 2]))  # as if its last two were none
    new = jnp.stack([ids[0, 4:7], ids[1, 2:5]])
    logits, after = apply(new, cache=filled)
    for row, start in enumerate((4, 2)):
        chex.assert_trees_all_close(
            logits[row], whole[row, start : start + 3], atol=1e-5
        )
    assert after.length.tolist() == [7, 5]


def test_heads_are_split_and_merged():
    x = jnp.arange(12.0).reshape(1, 2, 6)
    heads = attention.split_heads(x, 3)
    assert heads[0].tolist() == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    chex.assert_trees_all_equal(attention.merge_heads(heads), x)


@pytest.mark.parametrize(
    ("choice", "dtype", "backend", "expected"),
    [
        ("auto", "bfloat16", "gpu", True),
        ("auto", "float32", "gpu", False),
        ("auto", "bfloat16", "tpu", False),
        ("auto", "bfloat16", "cpu", False),
        ("xla", "bfloat16", "gpu", False),
        ("cudnn", "bfloat16", "gpu", True),
    ],
)
def test_the_fused_kernel_is_taken_where_it_runs(
    monkeypatch, choice, dtype, backend, expected
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert attention.uses_cudnn(choice, dtype) == expected


def test_the_fused_kernel_is_asked_for(monkeypatch):
    """The call that an NVIDIA GPU gets is jax.nn's, with the mask for all heads."""
    asked = {}

    def kernel(query, key, value, **options):
        asked.update(options, shapes=[x.shape for x in (query, key, value)])
        return query

    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    query, key = normal(0, 2, 6, 5, 4), normal(1, 2, 2, 5, 4)
    seen = jnp.ones((2, 5, 5), bool).at[1, 2].set(False).at[0, 0, 0].set(False)
    found = attention.attend(query, key, key, seen, "cudnn")
    chex.assert_trees_all_equal(found, query)
    assert asked["implementation"] == "cudnn"
    # On an H200 the kernel's gradients were off by 7e4 with a query that saw nothing.
    chex.assert_trees_all_equal(asked["mask"], seen.at[1, 2].set(True)[:, None])
    assert asked["shapes"] == [(2, 5, 6, 4), (2, 5, 2, 4), (2, 5, 2, 4)]


# --- layers -----------------------------------------------------------------------


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_layers_written_out_are_those_of_the_loop(remat):
    gradient = lambda **how: jax.jit(jax.grad(loss_of(**how)))(params(), batch())
    loop = gradient(scan_layers=True)
    chex.assert_trees_all_close(
        gradient(scan_layers=False, remat=remat), loop, atol=1e-6
    )
    chex.assert_trees_all_close(
        gradient(scan_layers=True, remat=remat), loop, atol=1e-6
    )


def test_hidden_states_of_a_layer_are_those_of_the_loop():
    ids, mask = (batch()[k] for k in ("input_ids", "attention_mask"))
    states = lambda scan: hidden_states(
        dataclasses.replace(CONFIG, scan_layers=scan), 1, params(), ids, mask
    )
    chex.assert_trees_all_close(states(False), states(True), atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "choice", "remat", "loop"),
    [
        (3, None, "none", False),
        (7, None, "none", False),
        (8, None, "none", True),
        (3, True, "none", True),
        (8, False, "none", False),
        (3, None, "dots", True),
    ],
)
def test_few_layers_are_written_out(layers, choice, remat, loop):
    how = {"num_layers": layers, "scan_layers": choice, "remat": remat}
    config = dataclasses.replace(CONFIG, **how)
    assert config.scanned == loop
    outline = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    chex.assert_shape(outline["layers"]["gate_proj"]["kernel"], (layers, 12, 16))
    apply = lambda p: Llama(config).apply({"params": p}, batch()["input_ids"])
    program = jax.jit(apply).lower(outline).as_text()
    assert ("stablehlo.while" in program) == loop


def test_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="attention='flash' is unknown; choose one of"):
        dataclasses.replace(CONFIG, attention="flash")
