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


def rotate(x_BxLxHxK: jax.Array, angles_BxLxK2: jax.Array) -> jax.Array:
    """Rotates the pairs (i, i + K/2) of each head by their angles, in float32."""
    first, second = jnp.split(x_BxLxHxK.astype(jnp.float32), 2, axis=-1)
    cos, sin = (f(angles_BxLxK2)[:, :, None] for f in (jnp.cos, jnp.sin))
    turned = jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    )
    return turned.astype(x_BxLxHxK.dtype)
