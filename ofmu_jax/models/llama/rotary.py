"""Rotary positions of the Llama family (Su et al. 2021, arXiv 2104.09864)."""

import math

import jax
import jax.numpy as jnp

from ofmu_jax.models.llama.config import LlamaConfig


def rope_frequencies(config: LlamaConfig) -> jax.Array:
    """Rotary frequencies in radians per position, shape (K / 2,)."""
    exponents = jnp.arange(0, config.head_dim, 2, dtype=jnp.float32) / config.head_dim
    frequencies = 1 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    # Wavelengths longer than the original context are stretched, those that turn
    # often within it are kept, those between are blended.
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    blend = jnp.clip((turns - low) / (high - low), 0, 1)
    return (1 - blend) * frequencies / scaling.factor + blend * frequencies


def turns(config: LlamaConfig, positions_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of each pair's angle at these positions, both (B, L, K / 2)."""
    angles = positions_BxL[..., None].astype(jnp.float32) * rope_frequencies(config)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x_BxHxLxK: jax.Array, turns_BxLxK2: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Turns the pairs (i, i + K/2) of each head, in float32."""
    first, second = jnp.split(x_BxHxLxK.astype(jnp.float32), 2, axis=-1)
    cos, sin = (x[:, None] for x in turns_BxLxK2)
    turned = jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    )
    return turned.astype(x_BxHxLxK.dtype)
