"""Prompts read once, and what may follow them."""

from typing import cast

import jax
import jax.numpy as jnp

from ofmu_jax.models.llama import cache as caches
from ofmu_jax.models.llama.cache import Cache, init_cache
from ofmu_jax.models.llama.model import Llama, Params


def read(
    model: Llama,
    params: Params,
    ids_PxL: jax.Array,
    mask_PxL: jax.Array,
    lengths_P: jax.Array,
) -> Cache:
    """Keys and values of prompts.

    Args:
      ids_PxL: prompts, padded on the right; one may be empty.
      mask_PxL: 1 where a token may be attended to.
      lengths_P: tokens of each.

    Returns:
      A cache of L slots that goes on behind each prompt's last token.
    """
    empty = init_cache(model.config, *ids_PxL.shape)
    _, cache = model.apply(
        {"params": params}, ids_PxL, mask_PxL, cache=empty, last_only=True
    )
    return cast(Cache, cache)._replace(length=lengths_P)


def follow(
    model: Llama,
    params: Params,
    prompts: Cache,
    owner_R: jax.Array,
    ids_RxS: jax.Array,
    mask_RxS: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What the logits of texts behind prompts are the product of.

    Exactly those of prompt and text in one row: a text sees its own prompt and itself.

    Args:
      prompts: as `read` gives them.
      owner_R: which prompt each text follows.
      ids_RxS: texts, padded on the right.
      mask_RxS: 1 where a token may be attended to.

    Returns:
      The normed residual stream of the texts (R, S, D), and the matrix (V, D).
    """
    slots = prompts.filled.shape[1] + ids_RxS.shape[1]
    cache = caches.widened(caches.rows_of(prompts, owner_R), slots)
    hidden, head = model.apply(
        {"params": params}, ids_RxS, mask_RxS, cache=cache, without_head=True
    )
    return hidden, jnp.asarray(head)
