"""Greedy generation with a key-value cache."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.models.llama.model import Llama, Params, init_cache
from ofmu_jax.parallel.distributed import to_host
from ofmu_jax.parallel.sharding import put


def greedy_generate(
    model: Llama,
    params: Params,
    input_ids_BxL,
    attention_mask_BxL,
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    pad_token_id: int,
    sharding: jax.sharding.Sharding | None = None,
) -> np.ndarray:
    """The most likely continuation, token by token; compiled once per shape.

    Equals transformers' ``generate(do_sample=False)`` in float32; bfloat16 rounds in
    other places, so that near ties may fall otherwise. Positions count the tokens that
    may be attended to, a row ends with the first end-of-sequence token, and the loop
    ends when all rows have.

    Args:
      input_ids_BxL: prompts, padded on the left.
      attention_mask_BxL: 0 on the padding.
      max_new_tokens: N, at most this many new tokens.
      eos_token_ids: tokens that end a row.
      pad_token_id: what follows the end.
      sharding: where to put the rows, if the parameters lie on a mesh.

    Returns:
      New tokens of shape (B, N), int32; the end-of-sequence token included.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}.")
    if not np.all(np.asarray(attention_mask_BxL)[:, -1] == 1):
        raise ValueError(
            "a prompt ends in padding; pad prompts on the left, so that the last "
            "column of attention_mask is 1."
        )
    rows = [np.asarray(x, np.int32) for x in (input_ids_BxL, attention_mask_BxL)]
    tokens = _generate(
        model,
        params,
        *(rows if sharding is None else [put(x, sharding) for x in rows]),
        np.asarray(tuple(eos_token_ids), np.int32),
        np.asarray(pad_token_id, np.int32),
        max_new_tokens,
    )
    return to_host(tokens)


@functools.partial(jax.jit, static_argnums=(0, 6))
def _generate(model, params, input_ids, mask, eos_ids, pad_id, max_new_tokens):
    batch, length = input_ids.shape
    cache = init_cache(model.config, batch, length + max_new_tokens)
    positions = jnp.maximum(jnp.cumsum(mask, -1) - 1, 0)
    logits, cache = model.apply(
        {"params": params}, input_ids, mask, positions, cache=cache, last_only=True
    )
    token = jnp.argmax(logits[:, -1], -1).astype(jnp.int32)
    tokens = jnp.full((batch, max_new_tokens), pad_id, jnp.int32).at[:, 0].set(token)
    ended = jnp.isin(token, eos_ids)

    def go_on(carry):
        count, _, ended, *_ = carry
        return (count < max_new_tokens) & ~jnp.all(ended)

    def step(carry):
        count, token, ended, position, tokens, cache = carry
        position = position + 1
        logits, cache = model.apply(
            {"params": params}, token[:, None], None, position[:, None], cache=cache
        )
        token = jnp.argmax(logits[:, -1], -1).astype(jnp.int32)
        token = jnp.where(ended, pad_id, token)
        tokens = tokens.at[:, count].set(token)
        ended = ended | jnp.isin(token, eos_ids)
        return count + 1, token, ended, position, tokens, cache

    first = (jnp.ones((), jnp.int32), token, ended, positions[:, -1], tokens, cache)
    return jax.lax.while_loop(go_on, step, first)[4]
