"""The residual stream after every layer: to read, to decode early, and to exchange.

Suffixes as in `ofmu_jax.models.llama.model`; N layers, K places of a row.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ofmu_jax.models.llama import attention
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.llama.layer import Layer, RMSNorm
from ofmu_jax.models.llama.model import Params, logits_of
from ofmu_jax.models.llama.rotary import turns


def residuals(
    config: LlamaConfig,
    params: Params,
    input_ids_BxL,
    attention_mask_BxL,
    kept: Callable[[jax.Array], jax.Array] = lambda x_BxLxD: x_BxLxD,
) -> jax.Array:
    """The residual stream after each layer, before the last norm: (N, B, L, D).

    Args:
      kept: what is kept of each layer's (B, L, D), the shape (N, …) of the result.
    """

    def body(x_BxLxD: jax.Array, own: Params):
        x_BxLxD = through(own, x_BxLxD)
        return x_BxLxD, kept(x_BxLxD)

    through = _layer(config, attention_mask_BxL)
    embedding = params["embed_tokens"]["embedding"]
    x_BxLxD = embedding[input_ids_BxL].astype(config.dtype)
    return jax.lax.scan(body, x_BxLxD, params["layers"])[1]


def decoded(config: LlamaConfig, params: Params, x_xD: jax.Array) -> jax.Array:
    """Logits (…, V), float32, as if no layer came after this residual stream (…, D).

    The logit lens (nostalgebraist 2020); the last layer's are the model's own.
    """
    norm = RMSNorm(config.rms_norm_eps, config.dtype)
    hidden = norm.apply({"params": params["norm"]}, x_xD)
    tied = config.tie_word_embeddings
    head = params["embed_tokens"]["embedding"] if tied else params["lm_head"]
    return logits_of(config, jnp.asarray(hidden), head)


def exchanged(
    config: LlamaConfig,
    params: Params,
    own_NxBxLxD: jax.Array,
    other_NxBxLxD: jax.Array,
    where_BxL,
    attention_mask_BxL,
) -> jax.Array:
    """The last residual stream where, after one layer, some places are another model's.

    Args:
      own_NxBxLxD: `residuals` of this model.
      other_NxBxLxD: those of the other, of the same shape.
      where_BxL: the places that are exchanged, bool.

    Returns:
      Shape (N, B, L, D); entry ℓ is for an exchange after layer ℓ, and no other.
    """
    through = _layer(config, attention_mask_BxL)

    def after(number: jax.Array) -> jax.Array:
        x_BxLxD = jnp.where(
            jnp.asarray(where_BxL)[..., None],
            other_NxBxLxD[number],
            own_NxBxLxD[number],
        )

        def body(layer: jax.Array, x_BxLxD: jax.Array) -> jax.Array:
            return through(jax.tree.map(lambda x: x[layer], params["layers"]), x_BxLxD)

        return jax.lax.fori_loop(number + 1, config.num_layers, body, x_BxLxD)

    return jax.lax.map(after, jnp.arange(config.num_layers))


def _layer(
    config: LlamaConfig, attention_mask_BxL
) -> Callable[[Params, jax.Array], jax.Array]:
    """(parameters of one layer, residual stream) -> the next, for rows from their
    first place on."""
    batch, length = attention_mask_BxL.shape
    index_BxL = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
    mask = attention.visible(config, index_BxL, attention_mask_BxL.astype(bool))
    shared = turns(config, index_BxL), mask, jnp.zeros(batch, jnp.int32)
    layer = Layer(config)

    def through(own: Params, x_BxLxD: jax.Array) -> jax.Array:
        (x_BxLxD, _), _ = layer.apply({"params": own}, (x_BxLxD, None), None, *shared)
        return x_BxLxD

    return through
