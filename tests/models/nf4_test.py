"""NF4 against the published values, and models in it against dense ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from llamas import init_params
from nf4_toys import CONFIG, llama

from ofmu_jax.methods import Unmerged
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.adapters import merging, with_adapters
from ofmu_jax.models.llama.model import Llama, LlamaConfig
from ofmu_jax.models.llama.nf4 import BLOCK, Nf4

# QLoRA (2305.14314), appendix E; bitsandbytes has the same.
PUBLISHED = """-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453
    -0.28444138169288635 -0.18477343022823334 -0.09105003625154495 0.0
    0.07958029955625534 0.16093020141124725 0.24611230194568634 0.33791524171829224
    0.44070982933044434 0.5626170039176941 0.7229568362236023 1.0"""
WIDEST = 1 - 0.6961928009986877  # of the gaps between neighbours


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


# --- the values and the codes -------------------------------------------------------


def test_values_are_the_published_ones():
    np.testing.assert_array_equal(
        nf4.VALUES, np.array(PUBLISHED.split(), float).astype(np.float32)
    )


def test_values_are_quantiles_of_a_normal_distribution():
    """As bitsandbytes' create_normal_map makes them."""
    quantiles = lambda n: scipy.stats.norm.ppf(np.linspace(0.9677083, 0.5, n)[:-1])
    made = np.sort(np.concatenate([quantiles(9), [0.0], -quantiles(8)]))
    np.testing.assert_allclose(nf4.VALUES, made / made.max(), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_values_themselves_are_kept(dtype):
    """Rows 2i and 2i + 1 share a byte, the first in its upper half, as in
    bitsandbytes; two columns with scales of their own."""
    w = jnp.tile(nf4.VALUES, BLOCK // 16)[:, None] * jnp.array([0.5, 4.0])
    q = nf4.quantize(w.astype(dtype))
    codes = np.tile(np.arange(0, 16, 2) * 16 + np.arange(1, 16, 2), BLOCK // 16)
    np.testing.assert_array_equal(q.codes, np.stack([codes, codes], 1))
    np.testing.assert_array_equal(q.scales, [[0.5, 4.0]])
    assert (q.codes.dtype, q.scales.dtype, q.shape) == (jnp.uint8, jnp.float32, w.shape)
    np.testing.assert_array_equal(nf4.dequantize(q), w)
    found = nf4.dequantize(q, jnp.bfloat16)
    np.testing.assert_array_equal(found, w.astype(jnp.bfloat16))


def test_the_nearest_value_is_taken():
    """Errors known on paper: 0.9 is 1, 0.86 is 0.72…; −0.84 is −0.69…, a tie 0."""
    tie = nf4.VALUES[8] / 2  # of 0 and the next
    w = jnp.zeros((BLOCK, 1)).at[:5, 0].set(jnp.array([1.0, 0.9, 0.86, -0.84, tie]))
    found = nf4.dequantize(nf4.quantize(w))[:6, 0]
    np.testing.assert_array_equal(found, nf4.VALUES[[15, 15, 14, 1, 7, 7]])


def test_blocks_are_along_the_input_axis_and_a_zero_block_is_zero():
    w = normal(3, 2 * BLOCK, 5).at[1, :BLOCK].set(0)
    q = nf4.quantize(w)
    expected = jnp.abs(w).reshape(3, 2, BLOCK, 5).max(2)
    np.testing.assert_array_equal(q.scales, expected)
    found = nf4.dequantize(q)
    assert not found[1, :BLOCK].any()
    assert bool(
        (jnp.abs(found - w) <= jnp.repeat(expected, BLOCK, 1) * WIDEST / 2).all()
    )
    # Once more changes nothing: the largest entry of a block is kept.
    again = nf4.quantize(found)
    jax.tree.map(np.testing.assert_array_equal, again, q)


def test_a_stack_is_quantised_layer_by_layer_and_the_rest_is_kept():
    params = llama()
    found = nf4.quantized(params)
    kernel = params["layers"]["down_proj"]["kernel"]
    jax.tree.map(
        np.testing.assert_array_equal,
        found["layers"]["down_proj"]["kernel"],
        nf4.quantize(kernel),
    )
    kept = jax.tree.leaves_with_path(found, is_leaf=nf4.is_nf4)
    dense = [jax.tree_util.keystr(p) for p, x in kept if not isinstance(x, Nf4)]
    assert len(kept) - len(dense) == 7
    assert all("norm" in name or "embed" in name for name in dense)
    assert found["embed_tokens"]["embedding"] is params["embed_tokens"]["embedding"]
    abstract = nf4.outline(params, "float32")
    shapes = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert shapes(abstract) == shapes(found)


def test_sizes_that_blocks_do_not_divide_are_refused():
    narrow = init_params(LlamaConfig(8, 64, 96, 1, 2, 1, 32), jax.random.key(0))
    with pytest.raises(ValueError, match="layers/down_proj/kernel: 96 inputs are no"):
        nf4.quantized(narrow)
    with pytest.raises(ValueError, match="multiple of 64"):
        nf4.outline(narrow, "float32")


# --- models -------------------------------------------------------------------------

IDS = jnp.array([[1, 2, 3, 4], [5, 6, 7, 0]])


def dequantised(params):
    dense = lambda x: nf4.dequantize(x) if isinstance(x, Nf4) else x
    return jax.tree.map(dense, params, is_leaf=nf4.is_nf4)


@functools.partial(jax.jit, static_argnames="config")
def logits(params, config=CONFIG):
    return Llama(config).apply({"params": params}, IDS)


def with_random_adapters(params, dtype="float32"):
    part = Unmerged(2, 4.0, dtype=dtype)
    adapters, _ = part.split(params)
    random = lambda x: 0.3 * normal(*x.shape).astype(x.dtype)
    return part.merge(jax.tree.map(random, adapters), params)


def test_answers_are_those_of_the_dense_matrices():
    """Biases of the projections included."""
    config = LlamaConfig(8, 64, 64, 2, 2, 1, 32, qkv_bias=True, mlp_bias=True)
    params = nf4.quantized(
        jax.tree.map(lambda x: x + 0.1, init_params(config, jax.random.key(0)))
    )
    np.testing.assert_allclose(
        logits(params, config), logits(dequantised(params), config), atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantize", [True, False])
def test_an_export_gives_the_same_answers(quantize, dtype, tmp_path):
    base = nf4.quantized(llama()) if quantize else llama()
    params = with_random_adapters(base, dtype)
    huggingface.save_pretrained(tmp_path / "x", merging(params), CONFIG)
    config, dense = huggingface.load_pretrained(tmp_path / "x")
    assert {x.dtype.name for x in jax.tree.leaves(dense)} == {"float32"}
    np.testing.assert_allclose(logits(dense, config), logits(params), atol=2e-5)
    assert not np.allclose(logits(dense), logits(base), atol=1e-2)


# --- derivatives --------------------------------------------------------------------


def loss(a, q, matmul):
    """Two layers, so that the backward pass takes a product with Wᵀ."""

    def layer(x, row):
        return jnp.tanh(matmul(x + row[0], row[1])), None

    x, _ = jax.lax.scan(layer, normal(2, BLOCK), (a, q))
    return jnp.sum(x**2)


def derivatives(a, q, matmul):
    """Gradient, forward over reverse, reverse over reverse, and one more of it."""
    f = lambda a: loss(a, q, matmul)
    square = lambda a: jnp.sum(jax.grad(f)(a) ** 2)
    third = lambda a: jnp.sum(jax.grad(square)(a) ** 2)
    product, linear = jax.linearize(jax.grad(f), a)
    return {
        "gradient": product,
        "jvp": jax.jvp(jax.grad(f), (a,), (a,))[1],
        "linearize": linear(a),
        "vjp": jax.grad(square)(a),
        "third": jax.grad(third)(a),
    }


def test_derivatives_of_every_order_are_those_of_the_dense_matrices():
    q = nf4.quantize(normal(2, BLOCK, BLOCK) / 8)
    a = normal(2, BLOCK, seed=1)
    found = jax.jit(lambda a, q: derivatives(a, q, nf4.product))(a, q)
    expected = jax.jit(lambda a, w: derivatives(a, w, jnp.matmul))(a, nf4.dequantize(q))
    for name, value in expected.items():
        scale = float(jnp.abs(value).max())
        np.testing.assert_allclose(found[name], value, atol=1e-5 * scale, err_msg=name)


def test_nothing_flows_into_the_scales():
    q = nf4.quantize(normal(BLOCK, 3))
    f = lambda scales: jnp.sum(
        nf4.product(jnp.ones((1, BLOCK)), q._replace(scales=scales))
    )
    assert not jax.grad(f)(q.scales).any()


ORDERS = {
    "gradient": lambda f, a: jax.grad(f)(a),
    "jvp": lambda f, a: jax.jvp(jax.grad(f), (a,), (a,))[1],
    "vjp": lambda f, a: jax.grad(lambda a: jnp.sum(jax.grad(f)(a) ** 2))(a),
}


def temporary_bytes(function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("order", ORDERS)
def test_no_dense_matrix_is_kept_for_a_backward_pass(order):
    """Memory grows with the layers by vectors alone."""

    def taken(layers):
        q = jax.eval_shape(nf4.quantize, jnp.zeros((layers, BLOCK, BLOCK)))
        f = lambda a, q: ORDERS[order](lambda a: loss(a, q, nf4.product), a)
        return temporary_bytes(f, jnp.zeros((layers, BLOCK)), q)

    assert taken(9) - taken(1) < 8 * 4 * BLOCK * BLOCK / 4  # of 8 more, in float32


def test_a_deep_model_has_one_dense_layer_at_a_time():
    """In a loop over them: see `Request.computation`."""

    def taken(layers):
        config = LlamaConfig(64, 64, 256, layers, 2, 2, 32, scan_layers=True)
        params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
        adapters, _ = jax.eval_shape(Unmerged(2).split, params)
        fixed = nf4.outline(params, "float32")
        f = lambda a, fixed: jnp.mean(logits(with_adapters(a, fixed, 1.0), config) ** 2)
        return temporary_bytes(jax.grad(f), adapters, fixed)

    dense = 4 * (4 * 64 * 64 + 3 * 64 * 256)  # bytes of a layer's kernels
    assert taken(6) - taken(2) < 4 * dense / 2
