"""A decoder-only transformer of the Llama family, in Flax Linen.

One module for Llama 2 and 3, Mistral (sliding window), Qwen 2 (biased projections),
Qwen 3 (normalised queries and keys), SmolLM2 and their likes: RMSNorm, rotary
positions, grouped-query attention, SwiGLU. Parameters of the layers are stacked on
axis 0, whether the program has a loop over them, with which it does not grow with the
depth, or every layer written out (`LlamaConfig.scan_layers`).

Suffixes: B batch, L query positions, M key positions, H heads, G key-value heads,
K head size, D model size, F feed-forward size, V vocabulary.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ofmu_jax.models.llama import attention
from ofmu_jax.models.llama import cache as caches
from ofmu_jax.models.llama.cache import Cache as Cache
from ofmu_jax.models.llama.cache import init_cache as init_cache
from ofmu_jax.models.llama.config import REMAT as REMAT
from ofmu_jax.models.llama.config import LlamaConfig as LlamaConfig
from ofmu_jax.models.llama.config import RopeScaling as RopeScaling
from ofmu_jax.models.llama.layer import Layer, Place, RMSNorm
from ofmu_jax.models.llama.layer import anywhere as anywhere
from ofmu_jax.models.llama.rotary import rope_frequencies as rope_frequencies
from ofmu_jax.models.llama.rotary import turns

Params = Any


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
        mask = attention.visible(c, index_BxL, keys_BxM)
        shared = turns(c, positions_BxL), mask, start_B  # by all layers

        embed = nn.Embed(
            c.vocab_size,
            c.hidden_size,
            dtype=c.dtype,
            embedding_init=nn.initializers.normal(c.initializer_range),
            name="embed_tokens",
        )
        carry = self.place(embed(input_ids_BxL)), None if cache is None else cache[:2]
        if c.scanned or self.is_initializing():
            numbers = jnp.arange(c.num_layers, dtype=jnp.int32)
            layers = _scanned(c)(c, self.place, name="layers")
            (x_BxLxD, stored), _ = layers(carry, numbers, *shared)
        else:
            stacked = self.variables["params"]["layers"]
            layer = Layer(c, self.place, parent=None)
            x_BxLxD, stored = _written_out(layer, stacked, *carry, *shared)
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
        logits = logits_of(c, x_BxLxD, head_VxD)
        if stored is None:
            return logits
        keys, values = stored
        return logits, Cache(keys, values, keys_BxM, start_B + length)


def logits_of(config: LlamaConfig, x_xD: jax.Array, head_VxD: jax.Array) -> jax.Array:
    """Float32 logits (…, V) of a normed residual stream (…, D)."""
    logits = jnp.matmul(  # as one matrix, as in `Projection`
        x_xD.reshape(-1, config.hidden_size),
        head_VxD.astype(config.dtype).T,
        preferred_element_type=jnp.float32,
    )
    return logits.reshape(*x_xD.shape[:-1], config.vocab_size)


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


def _scanned(config: LlamaConfig):
    """`Layer` as the body of a loop over stacked parameters."""
    layer, policy = Layer, REMAT[config.remat]
    if policy is not None:
        layer = nn.remat(Layer, prevent_cse=False, policy=policy)
    return nn.scan(
        layer,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
        length=config.num_layers,
    )


def _written_out(layer: Layer, stacked: Params, x_BxLxD, cache, *shared):
    """The same without a loop: one layer after the other, each with its own cache."""
    config = layer.config

    def body(params, carry):
        return layer.apply({"params": params}, carry, None, *shared)[0]

    if (policy := REMAT[config.remat]) is not None:
        body = jax.checkpoint(body, policy=policy)
    new = []
    for number in range(config.num_layers):
        take = functools.partial(jax.lax.index_in_dim, index=number, keepdims=False)
        own = None if cache is None else tuple(x[number] for x in cache)
        x_BxLxD, own = body(jax.tree.map(take, stacked), (x_BxLxD, own))
        new.append(own)
    return x_BxLxD, None if cache is None else tuple(zip(*new, strict=True))
