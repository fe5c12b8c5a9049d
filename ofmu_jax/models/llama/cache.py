"""Keys and values of the tokens that came before, and attention to them.

Suffixes as in `ofmu_jax.models.llama.attention`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ofmu_jax.models.llama import attention
from ofmu_jax.models.llama.config import Attention, LlamaConfig


class Cache(NamedTuple):
    """Keys and values of all layers; each row fills its own M slots, from 0 on.

    Where the layers are a loop, each field is one array with the layers on an axis in
    front, else there is an array for each layer: so all are written in place. The
    layouts are those in which a single query reads them in order.
    """

    keys: Any  # shape=(B, G, K, M)
    values: Any  # shape=(B, G, M, K)
    filled: jax.Array  # shape=(B, M), bool: may be attended to
    length: jax.Array  # shape=(B,), int32: slots that each row has used so far

    def each(self, keys: Callable, values: Callable, row: Callable) -> "Cache":
        """The cache with functions applied to all arrays of the fields."""
        return Cache(
            jax.tree.map(keys, self.keys),
            jax.tree.map(values, self.values),
            row(self.filled),
            row(self.length),
        )


class Slots(NamedTuple):
    """Where a layer puts new keys and values."""

    start: jax.Array  # shape=(B,), int32: the slot of the first new token
    layer: jax.Array | None  # shape=(), int32: of a cache of all layers


def init_cache(config: LlamaConfig, batch: int, length: int) -> Cache:
    """An empty cache for ``length`` tokens a row in all."""
    shapes = (config.head_dim, length), (length, config.head_dim)
    heads = batch, config.num_kv_heads

    def empty(shape: tuple[int, int]) -> Any:
        if config.scanned:
            return jnp.zeros((config.num_layers, *heads, *shape), config.dtype)
        one = lambda: jnp.zeros((*heads, *shape), config.dtype)
        return tuple(one() for _ in range(config.num_layers))

    keys, values = map(empty, shapes)
    return Cache(
        keys,
        values,
        jnp.zeros((batch, length), bool),
        jnp.zeros(batch, jnp.int32),
    )


def widened(cache: Cache, length: int) -> Cache:
    """The cache with empty slots behind its own, ``length`` in all."""
    more = length - cache.filled.shape[1]

    def pad(x: jax.Array, axis: int) -> jax.Array:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, more)
        return jnp.pad(x, widths)

    keys, values = (functools.partial(pad, axis=axis) for axis in (-1, -2))
    wider = cache._replace(filled=pad(cache.filled, 1))
    return wider.each(keys, values, lambda x: x)


def rows_of(cache: Cache, rows: jax.Array) -> Cache:
    """The cache of these rows, which may repeat."""
    heads = lambda x: x[..., rows, :, :, :]
    return cache.each(heads, heads, lambda x: x[rows])


def replaced(cache: Cache, rows: jax.Array, new: Cache) -> Cache:
    """The cache with new rows, of as many slots, in place of these."""
    heads = lambda old, x: old.at[..., rows, :, :, :].set(x)
    return Cache(
        jax.tree.map(heads, cache.keys, new.keys),
        jax.tree.map(heads, cache.values, new.values),
        cache.filled.at[rows].set(new.filled),
        cache.length.at[rows].set(new.length),
    )


def fill(filled_BxM: jax.Array, start_B: jax.Array, new_BxL: jax.Array) -> jax.Array:
    """Marks the L slots from ``start`` on; a row beyond its last slot marks none."""
    return filled_BxM.at[_places(start_B, new_BxL.shape[1])].set(
        new_BxL.astype(bool), mode="drop"
    )


def store(stored: Any, new: tuple[jax.Array, jax.Array], at: Slots) -> Any:
    """Keys and values of one layer or of all, with one layer's new (B, G, L, K)."""
    (keys, values), layer = stored, () if at.layer is None else (at.layer,)
    rows, columns = _places(at.start, new[0].shape[2])
    new_key, new_value = (x.swapaxes(1, 2) for x in new)  # (B, L, G, K)
    keys = keys.at[*layer, rows, :, :, columns].set(new_key, mode="drop")
    values = values.at[*layer, rows, :, columns].set(new_value, mode="drop")
    return keys, values


def of_layer(stored: Any, at: Slots) -> Any:
    """Keys and values of one layer."""
    return stored if at.layer is None else tuple(x[at.layer] for x in stored)


def _places(start_B: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """Rows and slots of L new tokens."""
    rows = jnp.arange(len(start_B), dtype=jnp.int32)[:, None]
    return rows, start_B[:, None] + jnp.arange(length, dtype=jnp.int32)


def attend(
    query_BxHxLxK: jax.Array,
    keys_BxGxKxM: jax.Array,
    values_BxGxMxK: jax.Array,
    mask_BxLxM: jax.Array,
    implementation: Attention = "xla",
) -> jax.Array:
    """As `attention.attend`; for a single query without products of matrices, which
    are too thin to be fast."""
    batch, heads, length, size = query_BxHxLxK.shape
    if length > 1:
        keys_BxGxMxK = keys_BxGxKxM.swapaxes(-1, -2)
        return attention.attend(
            query_BxHxLxK, keys_BxGxMxK, values_BxGxMxK, mask_BxLxM, implementation
        )
    dtype, wide = query_BxHxLxK.dtype, lambda x: x.astype(jnp.float32)
    query = query_BxHxLxK.reshape(batch, keys_BxGxKxM.shape[1], -1, size)
    scores = jnp.sum(wide(query[..., None]) * wide(keys_BxGxKxM[:, :, None]), -2)
    weights = attention.softmax(scores, mask_BxLxM, size).astype(dtype)
    mixed = jnp.sum(wide(weights[..., None]) * wide(values_BxGxMxK[:, :, None]), -2)
    return mixed.astype(dtype).reshape(batch, heads, 1, size)
