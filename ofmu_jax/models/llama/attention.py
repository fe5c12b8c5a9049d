"""Attention of queries to keys that lie by heads.

Suffixes as in `model`: B batch, L queries, M keys, H heads, G key-value heads, K head
size. Heads come before positions, so that every product is a plain one of matrices:
XLA on a CPU computes others by way of copies.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ofmu_jax.models.llama.config import Attention, LlamaConfig


def split_heads(x_BxLxHK: jax.Array, heads: int) -> jax.Array:
    """(B, L, H·K) to (B, H, L, K)."""
    batch, length, size = x_BxLxHK.shape
    return x_BxLxHK.reshape(batch, length, heads, size // heads).swapaxes(1, 2)


def merge_heads(x_BxHxLxK: jax.Array) -> jax.Array:
    """(B, H, L, K) to (B, L, H·K)."""
    batch, heads, length, size = x_BxHxLxK.shape
    return x_BxHxLxK.swapaxes(1, 2).reshape(batch, length, heads * size)


def visible(
    config: LlamaConfig, index_BxL: jax.Array, keys_BxM: jax.Array
) -> jax.Array:
    """Causal, within the sliding window, and only where a key may be attended to.

    Shape (B, L, M), bool; the indices are places in the row, not rotary positions.
    """
    distance = index_BxL[..., None] - jnp.arange(keys_BxM.shape[1])
    seen = distance >= 0
    if config.sliding_window is not None:
        seen &= distance < config.sliding_window
    return seen & keys_BxM[:, None, :]


def attend(
    query_BxHxLxK: jax.Array,
    key_BxGxMxK: jax.Array,
    value_BxGxMxK: jax.Array,
    mask_BxLxM: jax.Array,
    implementation: Attention = "xla",
) -> jax.Array:
    """softmax(Q Kᵀ / √K) V within the mask, shape (B, H, L, K).

    Each group of H / G queries shares a key-value head, which is not repeated. Scores
    and softmax are in float32. A query that sees no key gets the mean of all values:
    it stays finite.

    Args:
      implementation: ``"cudnn"`` is a fused kernel for bfloat16 or float16 on an NVIDIA
        GPU, whose derivatives cannot be differentiated again; ``"auto"`` takes it where
        it can run, ``"xla"`` never.
    """
    if uses_cudnn(implementation, query_BxHxLxK.dtype):
        return _fused(query_BxHxLxK, key_BxGxMxK, value_BxGxMxK, mask_BxLxM)
    batch, heads, length, size = query_BxHxLxK.shape
    groups, keys = key_BxGxMxK.shape[1:3]
    # The H / G queries of a group are rows of one matrix.
    query = query_BxHxLxK.reshape(batch, groups, heads // groups * length, size)
    scores = jnp.matmul(
        query, key_BxGxMxK.swapaxes(-1, -2), preferred_element_type=jnp.float32
    ).reshape(batch, heads, length, keys)
    weights = softmax(scores, mask_BxLxM, size).astype(query.dtype)
    mixed = weights.reshape(*query.shape[:3], keys) @ value_BxGxMxK
    return mixed.reshape(query_BxHxLxK.shape)


def softmax(scores: jax.Array, mask_BxLxM: jax.Array, size: int) -> jax.Array:
    """Weights of the keys, float32, from Q Kᵀ of the shape (B, …, L, M) or (B, …, M)
    where L is 1; ``size`` is K."""
    scores *= size**-0.5  # in float32: bfloat16 would round the query again
    # A finite floor: a row with no key to attend to stays finite.
    scores = jnp.where(mask_BxLxM[:, None], scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1)


def _fused(query_BxHxLxK, key_BxGxMxK, value_BxGxMxK, mask_BxLxM) -> jax.Array:
    # The kernel's gradient of a query that sees no key is garbage: such a one sees all.
    mask_BxLxM |= ~jnp.any(mask_BxLxM, -1, keepdims=True)
    by_place = lambda x: x.swapaxes(1, 2)
    mixed = jax.nn.dot_product_attention(
        *map(by_place, (query_BxHxLxK, key_BxGxMxK, value_BxGxMxK)),
        mask=mask_BxLxM[:, None],
        implementation="cudnn",
    )
    return by_place(mixed)


def uses_cudnn(implementation: Attention, dtype: Any) -> bool:
    """Whether a fused kernel computes attention in this dtype on this machine."""
    if implementation != "auto":
        return implementation == "cudnn"
    return jax.default_backend() == "gpu" and jnp.dtype(dtype).itemsize == 2
