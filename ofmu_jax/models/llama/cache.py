"""Keys and values of the tokens that came before, and attention to them.

Suffixes as in `ofmu_jax.models.llama.model`; N query heads that share a key's head.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ofmu_jax.models.llama.config import LlamaConfig


class Cache(NamedTuple):
    """Keys and values of all layers; each row fills its own slots, from 0 on.

    The layouts are those in which one query reads them in order: keys along M, values
    along K. That is six times as fast on a CPU as (B, M, G, K).
    """

    keys: jax.Array  # shape=(layers, B, G, K, M)
    values: jax.Array  # shape=(layers, B, G, M, K)
    filled: jax.Array  # shape=(B, M), bool: may be attended to
    length: jax.Array  # shape=(B,), int32: slots that each row has used so far


class Slots(NamedTuple):
    """Where a layer puts its new keys and values."""

    layer: jax.Array  # shape=(), int32
    start: jax.Array  # shape=(B,), int32: the slot of the first new token


def init_cache(config: LlamaConfig, batch: int, length: int) -> Cache:
    """An empty cache for ``length`` tokens a row in all."""
    heads = (config.num_layers, batch, config.num_kv_heads)
    return Cache(
        jnp.zeros((*heads, config.head_dim, length), config.dtype),
        jnp.zeros((*heads, length, config.head_dim), config.dtype),
        jnp.zeros((batch, length), bool),
        jnp.zeros(batch, jnp.int32),
    )


def widened(cache: Cache, length: int) -> Cache:
    """The cache with empty slots behind its own, ``length`` in all."""
    more = length - cache.filled.shape[1]
    none, slots = (0, 0), (0, more)
    return Cache(
        jnp.pad(cache.keys, [none, none, none, none, slots]),
        jnp.pad(cache.values, [none, none, none, slots, none]),
        jnp.pad(cache.filled, [none, slots]),
        cache.length,
    )


def rows_of(cache: Cache, rows: jax.Array) -> Cache:
    """The cache of these rows, which may repeat."""
    heads = (x[:, rows] for x in cache[:2])
    return Cache(*heads, *(x[rows] for x in cache[2:]))


def replaced(cache: Cache, rows: jax.Array, new: Cache) -> Cache:
    """The cache with new rows in place of these; they may have fewer slots."""
    slots = new.filled.shape[1]
    filled = jnp.zeros((len(rows), cache.filled.shape[1]), bool)
    filled = filled.at[:, :slots].set(new.filled)
    return Cache(
        cache.keys.at[:, rows, ..., :slots].set(new.keys),
        cache.values.at[:, rows, :, :slots].set(new.values),
        cache.filled.at[rows].set(filled),
        cache.length.at[rows].set(new.length),
    )


def fill(filled_BxM: jax.Array, start_B: jax.Array, new_BxL: jax.Array) -> jax.Array:
    """Marks the L slots from ``start`` on; a row beyond its last slot marks none."""
    rows, columns = _places(start_B, new_BxL.shape[1])
    return filled_BxM.at[rows, columns].set(new_BxL.astype(bool), mode="drop")


def store(
    keys: jax.Array, values: jax.Array, new: tuple[jax.Array, jax.Array], at: Slots
) -> tuple[jax.Array, jax.Array]:
    """Both arrays of a `Cache` with one layer's new (B, L, G, K), written in place."""
    rows, columns = _places(at.start, new[0].shape[1])
    return (
        keys.at[at.layer, rows, :, :, columns].set(new[0], mode="drop"),
        values.at[at.layer, rows, :, columns].set(new[1], mode="drop"),
    )


def _places(start_B: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    rows = jnp.arange(len(start_B), dtype=jnp.int32)[:, None]
    return rows, start_B[:, None] + jnp.arange(length, dtype=jnp.int32)


def attend(
    query_BxLxGxNxK: jax.Array,
    keys_BxGxKxM: jax.Array,
    values_BxGxMxK: jax.Array,
    mask_BxLxM: jax.Array,
) -> jax.Array:
    """Attention to cached keys, (B, L, G, N, K); one query reads them without products
    of matrices, which are too thin to be fast."""
    query, dtype = query_BxLxGxNxK, query_BxLxGxNxK.dtype
    single = query.shape[1] == 1
    if single:
        wide = query[:, 0, ..., None].astype(jnp.float32)
        keys = keys_BxGxKxM[:, :, None].astype(jnp.float32)
        scores = jnp.sum(wide * keys, -2)[:, :, :, None]
    else:
        scores = jnp.einsum(
            "blgnk,bgkm->bgnlm",
            query,
            keys_BxGxKxM,
            preferred_element_type=jnp.float32,
        )
    scores *= query.shape[-1] ** -0.5
    floor = jnp.finfo(jnp.float32).min
    scores = jnp.where(mask_BxLxM[:, None, None], scores, floor)
    weights = jax.nn.softmax(scores, axis=-1).astype(dtype)
    if single:
        wide = weights[:, :, :, 0, :, None].astype(jnp.float32)
        values = values_BxGxMxK[:, :, None].astype(jnp.float32)
        return jnp.sum(wide * values, -2)[:, None].astype(dtype)
    return jnp.einsum("bgnlm,bgmk->blgnk", weights, values_BxGxMxK)
