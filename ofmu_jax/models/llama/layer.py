"""One decoder layer: attention and SwiGLU, each behind a norm and a residual."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ofmu_jax.models.llama import cache as caches
from ofmu_jax.models.llama.adapters import Projection
from ofmu_jax.models.llama.attention import attend, merge_heads, split_heads
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.llama.rotary import rotate

Place = Callable[[jax.Array], jax.Array]


def anywhere(x: jax.Array) -> jax.Array:
    """The array wherever it lies."""
    return x


class RMSNorm(nn.Module):
    """x / rms(x) · scale, computed in float32."""

    eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        wide *= jax.lax.rsqrt(jnp.mean(wide**2, -1, keepdims=True) + self.eps)
        return scale.astype(self.dtype) * wide.astype(self.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    config: LlamaConfig

    @nn.compact
    def __call__(self, x_BxLxD, turns_BxLxK2, mask_BxLxM, cache, slots):
        c = self.config

        def project(name, heads):
            dense = _dense(c, heads * c.head_dim, c.qkv_bias, name)
            return split_heads(dense(x_BxLxD), heads)

        query = project("q_proj", c.num_heads)
        key = project("k_proj", c.num_kv_heads)
        value = project("v_proj", c.num_kv_heads)
        if c.qk_norm:
            query = RMSNorm(c.rms_norm_eps, c.dtype, name="q_norm")(query)
            key = RMSNorm(c.rms_norm_eps, c.dtype, name="k_norm")(key)
        query, key = rotate(query, turns_BxLxK2), rotate(key, turns_BxLxK2)
        if cache is None:
            mixed = attend(query, key, value, mask_BxLxM, c.attention)
        else:
            cache = caches.store(cache, (key, value), slots)
            keys, values = caches.of_layer(cache, slots)
            mixed = caches.attend(query, keys, values, mask_BxLxM, c.attention)
        output = _dense(c, c.hidden_size, c.output_bias, "o_proj")
        return output(merge_heads(mixed)), cache


class Layer(nn.Module):
    """From residual stream to residual stream; the body of the loop over layers.

    It carries the residual stream and the cache: of this layer, or of all of them with
    the ``number`` of this one.
    """

    config: LlamaConfig
    place: Place = anywhere

    @nn.compact
    def __call__(self, carry, number, turns_BxLxK2, mask_BxLxM, start):
        c = self.config
        x_BxLxD, cache = carry
        normed = RMSNorm(c.rms_norm_eps, c.dtype, name="input_norm")(x_BxLxD)
        attended, cache = Attention(c, name="attention")(
            normed, turns_BxLxK2, mask_BxLxM, cache, caches.Slots(start, number)
        )
        x_BxLxD = self.place(x_BxLxD + attended)
        normed = RMSNorm(c.rms_norm_eps, c.dtype, name="post_attention_norm")(x_BxLxD)
        gate = _dense(c, c.intermediate_size, c.mlp_bias, "gate_proj")(normed)
        up = _dense(c, c.intermediate_size, c.mlp_bias, "up_proj")(normed)
        down = _dense(c, c.hidden_size, c.mlp_bias, "down_proj")
        return (self.place(x_BxLxD + down(nn.silu(gate) * up)), cache), None


def _dense(config: LlamaConfig, features: int, bias: bool, name: str) -> Projection:
    return Projection(
        features,
        use_bias=bias,
        dtype=config.dtype,
        kernel_init=nn.initializers.normal(config.initializer_range),
        name=name,
    )
