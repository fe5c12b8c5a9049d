"""A decoder-only transformer of the Llama family, in Flax Linen.

One module for Llama 2 and 3, Mistral (sliding window), Qwen 2 (biased projections),
Qwen 3 (normalised queries and keys), SmolLM2 and their likes: RMSNorm, rotary
positions, grouped-query attention, SwiGLU. The layers are one `nn.scan`, so their
parameters are stacked on axis 0 and the program does not grow with the depth.

Suffixes: B batch, L query positions, M key positions, H heads, G key-value heads,
K head size, D model size, F feed-forward size, V vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ofmu_jax.models.llama import cache as caches
from ofmu_jax.models.llama.adapters import Projection
from ofmu_jax.models.llama.cache import Cache as Cache
from ofmu_jax.models.llama.cache import init_cache as init_cache
from ofmu_jax.models.llama.config import REMAT as REMAT
from ofmu_jax.models.llama.config import LlamaConfig as LlamaConfig
from ofmu_jax.models.llama.config import RopeScaling as RopeScaling
from ofmu_jax.models.llama.rotary import rope_frequencies as rope_frequencies
from ofmu_jax.models.llama.rotary import rotate as rotate

Params = Any


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
    def __call__(self, x_BxLxD, angles_BxLxK2, mask_BxLxM, cache, slots):
        c = self.config
        groups = c.num_heads // c.num_kv_heads

        def project(name, heads):
            y = _dense(c, heads * c.head_dim, c.qkv_bias, name)(x_BxLxD)
            return y.reshape(*x_BxLxD.shape[:2], heads, c.head_dim)

        query = project("q_proj", c.num_heads)
        key = project("k_proj", c.num_kv_heads)
        value = project("v_proj", c.num_kv_heads)
        if c.qk_norm:
            query = RMSNorm(c.rms_norm_eps, c.dtype, name="q_norm")(query)
            key = RMSNorm(c.rms_norm_eps, c.dtype, name="k_norm")(key)
        query, key = rotate(query, angles_BxLxK2), rotate(key, angles_BxLxK2)
        shape = (*query.shape[:2], c.num_kv_heads, groups, c.head_dim)
        query = query.reshape(shape)
        if cache is not None:
            cache = caches.store(*cache, (key, value), slots)
            seen = mask_BxLxM.shape[-1]
            keys, values = (x[slots.layer] for x in cache)
            mixed = caches.attend(
                query, keys[..., :seen], values[:, :, :seen], mask_BxLxM
            )
            mixed = mixed.reshape(*x_BxLxD.shape[:2], c.num_heads * c.head_dim)
            return _dense(c, c.hidden_size, c.output_bias, "o_proj")(mixed), cache

        scores = jnp.einsum(
            "blgnk,bmgk->bgnlm", query, key, preferred_element_type=jnp.float32
        )
        scores *= c.head_dim**-0.5  # in float32: bfloat16 would round the query again
        # A finite floor: a row with no key to attend to stays finite.
        scores = jnp.where(
            mask_BxLxM[:, None, None], scores, jnp.finfo(jnp.float32).min
        )
        weights = jax.nn.softmax(scores, axis=-1).astype(c.dtype)
        mixed = jnp.einsum("bgnlm,bmgk->blgnk", weights, value)
        mixed = mixed.reshape(*x_BxLxD.shape[:2], c.num_heads * c.head_dim)
        return _dense(c, c.hidden_size, c.output_bias, "o_proj")(mixed), cache


Place = Callable[[jax.Array], jax.Array]


def anywhere(x: jax.Array) -> jax.Array:
    """The array wherever it lies."""
    return x


class Layer(nn.Module):
    """Attention and SwiGLU, each behind a norm and a residual; the body of the scan."""

    config: LlamaConfig
    place: Place = anywhere

    @nn.compact
    def __call__(self, carry, layer, angles_BxLxK2, mask_BxLxM, start):
        c = self.config
        x_BxLxD, cache = carry
        normed = RMSNorm(c.rms_norm_eps, c.dtype, name="input_norm")(x_BxLxD)
        attended, cache = Attention(c, name="attention")(
            normed, angles_BxLxK2, mask_BxLxM, cache, caches.Slots(layer, start)
        )
        x_BxLxD = self.place(x_BxLxD + attended)
        normed = RMSNorm(c.rms_norm_eps, c.dtype, name="post_attention_norm")(x_BxLxD)
        gate = _dense(c, c.intermediate_size, c.mlp_bias, "gate_proj")(normed)
        up = _dense(c, c.intermediate_size, c.mlp_bias, "up_proj")(normed)
        down = _dense(c, c.hidden_size, c.mlp_bias, "down_proj")
        return (self.place(x_BxLxD + down(nn.silu(gate) * up)), cache), None


class Llama(nn.Module):
    """Token ids to logits.

    ``place`` is applied to the residual stream wherever it is made, such as
    `placement.rows_stay(mesh)`; it changes no value.
    """

    config: LlamaConfig
    place: Place = anywhere

    @nn.compact
    def __call__(
        self,
        input_ids_BxL: jax.Array,
        attention_mask_BxL: jax.Array | None = None,
        positions_BxL: jax.Array | None = None,
        cache: Cache | None = None,
        *,
        last_only: bool = False,
        hidden_only: bool = False,
        without_head: bool = False,
        visible: int | None = None,
    ):
        """Logits of the next token at every position.

        Args:
          input_ids_BxL: token ids.
          attention_mask_BxL: 1 where a position may be attended to, as a key; zeros
            may lie anywhere. Default: all.
          positions_BxL: rotary positions; default 0 … L − 1 (after what is cached).
          cache: tokens that came before; the L new ones are added to it, in each row
            behind those that it has.
          last_only: only the last position's logits, L = 1 in the result: those of a
            long prompt need not fit into memory.
          hidden_only: the residual stream after the last layer, before the norm, of
            shape (B, L, D), in place of logits and cache.
          without_head: what the logits are the product of, in place of them: the
            normed residual stream (B, L, D) and the matrix (V, D) as it is stored.
          visible: how many slots of the cache to look at, if no row has used more.

        Returns:
          Float32 logits of shape (B, L, V); with a cache, (logits, new cache).
        """
        c = self.config
        batch, length = input_ids_BxL.shape
        start_B = jnp.zeros(batch, jnp.int32) if cache is None else cache.length
        if attention_mask_BxL is None:
            attention_mask_BxL = jnp.ones_like(input_ids_BxL)
        index_BxL = start_B[:, None] + jnp.arange(length, dtype=jnp.int32)
        if positions_BxL is None:
            positions_BxL = index_BxL
        keys_BxM = attention_mask_BxL.astype(bool)
        if cache is not None:
            keys_BxM = caches.fill(cache.filled, start_B, keys_BxM)
        mask = _attention_mask(c, index_BxL, keys_BxM[:, :visible])
        angles = positions_BxL[..., None].astype(jnp.float32) * rope_frequencies(c)

        embed = nn.Embed(
            c.vocab_size,
            c.hidden_size,
            dtype=c.dtype,
            embedding_init=nn.initializers.normal(c.initializer_range),
            name="embed_tokens",
        )
        layer, policy = Layer, REMAT[c.remat]
        if policy is not None:
            layer = nn.remat(Layer, prevent_cse=False, policy=policy)
        layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.num_layers,
        )(c, self.place, name="layers")
        stored = None if cache is None else (cache.keys, cache.values)
        x_BxLxD = self.place(embed(input_ids_BxL))
        numbers = jnp.arange(c.num_layers, dtype=jnp.int32)
        (x_BxLxD, stored), _ = layers((x_BxLxD, stored), numbers, angles, mask, start_B)
        if hidden_only:
            return x_BxLxD
        if last_only:
            x_BxLxD = x_BxLxD[:, -1:]
        x_BxLxD = RMSNorm(c.rms_norm_eps, c.dtype, name="norm")(x_BxLxD)
        if c.tie_word_embeddings:
            head_VxD = embed.embedding
        else:
            head_VxD = self.param(
                "lm_head",
                nn.initializers.normal(c.initializer_range),
                (c.vocab_size, c.hidden_size),
            )
        if without_head:
            return x_BxLxD, head_VxD
        logits = jnp.einsum(
            "bld,vd->blv",
            x_BxLxD,
            head_VxD.astype(c.dtype),
            preferred_element_type=jnp.float32,
        )
        if stored is None:
            return logits
        return logits, Cache(*stored, keys_BxM, start_B + length)


def init_params(config: LlamaConfig, key: jax.Array) -> Params:
    """Random float32 parameters: a nested dict, layers stacked on axis 0."""
    ids = jnp.zeros((1, 2), jnp.int32)
    return Llama(config).init(key, ids)["params"]


def hidden_states(
    config: LlamaConfig,
    layer: int,
    params: Params,
    input_ids_BxL,
    attention_mask_BxL,
    *,
    place: Place = anywhere,
) -> jax.Array:
    """The residual stream after decoder layer ``layer`` (from 0), shape (B, L, D).

    Layers beyond it are not run; ``place`` is that of `Llama`.

    Raises:
      ValueError: if the model has no such layer.
    """
    if not 0 <= layer < config.num_layers:
        raise ValueError(
            f"layer {layer} is not one of the model's {config.num_layers} layers, "
            f"0 to {config.num_layers - 1}."
        )
    shallow = dataclasses.replace(config, num_layers=layer + 1)
    layers = jax.tree.map(lambda x: x[: layer + 1], params["layers"])
    hidden = Llama(shallow, place).apply(
        {"params": {**params, "layers": layers}},
        input_ids_BxL,
        attention_mask_BxL,
        hidden_only=True,
    )
    return jnp.asarray(hidden)


def _attention_mask(config, index_BxL, keys_BxM) -> jax.Array:
    """Causal, within the sliding window, and only where a key may be attended to."""
    distance = index_BxL[..., None] - jnp.arange(keys_BxM.shape[1])
    visible = distance >= 0
    if config.sliding_window is not None:
        visible &= distance < config.sliding_window
    return visible & keys_BxM[:, None, :]


def _dense(config: LlamaConfig, features: int, bias: bool, name: str) -> Projection:
    return Projection(
        features,
        use_bias=bias,
        dtype=config.dtype,
        kernel_init=nn.initializers.normal(config.initializer_range),
        name=name,
    )
