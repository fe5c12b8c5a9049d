"""Rows on their way through generation: their state, and the programs on it."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.models.llama import cache as caches
from ofmu_jax.models.llama import prompted
from ofmu_jax.models.llama.cache import Cache
from ofmu_jax.models.llama.model import Llama, Params


class Decoding(NamedTuple):
    """B rows on their way."""

    cache: Cache
    token: jax.Array  # shape=(B,), int32: the last one, not in the cache yet
    ended: jax.Array  # shape=(B,), bool: also where there is no prompt
    count: jax.Array  # shape=(B,), int32: new tokens so far
    tokens: jax.Array  # shape=(B, N), int32: new tokens
    number: jax.Array  # shape=(B,), int32: of the prompt, which draws are made for


class Prompts(NamedTuple):
    """P prompts without their last tokens, which are the first to be decoded."""

    ids: Any  # shape=(P, L), int32, padded on the right
    mask: Any  # shape=(P, L), int32
    lengths: Any  # shape=(P,), int32
    token: Any  # shape=(P,), int32: the last one
    absent: Any  # shape=(P,), bool: there is none
    number: Any  # shape=(P,), int32: among all prompts


class Sampling(NamedTuple):
    """How tokens are drawn."""

    key: jax.Array  # of all draws
    temperature: jax.Array  # logits are divided by it; above 0


class LeastLikely(NamedTuple):
    """Each token is the least likely one, of those that are possible at all."""


Choice = Sampling | LeastLikely | None  # None: the most likely token


def padded(
    prompts: Sequence[np.ndarray], numbers: Sequence[int], count: int, length: int
) -> Prompts:
    ids = np.zeros((count, length), np.int32)
    lengths, last, number = np.zeros((3, count), np.int32)
    number[: len(numbers)] = numbers
    for row, prompt in enumerate(prompts):
        lengths[row], last[row] = len(prompt) - 1, prompt[-1]
        ids[row, : len(prompt) - 1] = prompt[:-1]
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    absent = np.arange(count) >= len(prompts)
    return Prompts(ids, mask, lengths, last, absent, number)


def _read(model: Llama, params: Params, batch: Prompts, max_new_tokens: int):
    cache = prompted.read(model, params, batch.ids, batch.mask, batch.lengths)
    none = jnp.zeros(batch.token.shape, jnp.int32)
    tokens = jnp.zeros((*none.shape, max_new_tokens), jnp.int32)
    return Decoding(cache, batch.token, batch.absent, none, tokens, batch.number)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def begin(model, params, batch, length, max_new_tokens) -> Decoding:
    return widened(_read(model, params, batch, max_new_tokens), length)


@functools.partial(jax.jit, static_argnums=1)
def widened(state: Decoding, length: int) -> Decoding:
    return state._replace(cache=caches.widened(state.cache, length))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def join(model, params, state: Decoding, batch: Prompts, rows_P) -> Decoding:
    new = _read(model, params, batch, state.tokens.shape[1])
    new = widened(new, state.cache.filled.shape[1])
    rest = (old.at[rows_P].set(x) for old, x in zip(state[1:], new[1:], strict=True))
    return Decoding(caches.replaced(state.cache, rows_P, new.cache), *rest)


@jax.jit
def gather(state: Decoding, rows) -> Decoding:
    rest = (x[rows] for x in state[1:])
    return Decoding(caches.rows_of(state.cache, rows), *rest)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def decode(
    model,
    params,
    state: Decoding,
    eos_ids,
    stop: jax.Array,
    choice: Choice = None,
) -> Decoding:
    """Until ``stop`` rows have ended, or one that goes on has no slot left.

    A token is the most likely one, the least likely, or drawn with a key of its prompt
    and place, whatever other rows there are.
    """
    rows = jnp.arange(state.token.shape[0])

    def go_on(state: Decoding):
        used = jnp.where(state.ended, 0, state.cache.length)
        full = jnp.max(used) >= state.cache.filled.shape[1]
        return (jnp.sum(state.ended) < stop) & ~full

    def step(state: Decoding) -> Decoding:
        logits, cache = model.apply(
            {"params": params}, state.token[:, None], cache=state.cache
        )
        best = _argmax(_scores(logits[:, 0], choice, state))
        token = jnp.where(state.ended, state.token, best)
        length = jnp.where(state.ended, state.cache.length, cache.length)
        place = jnp.where(state.ended, state.tokens.shape[1], state.count)
        tokens = state.tokens.at[rows, place].set(token, mode="drop")
        count = state.count + ~state.ended
        ended = state.ended | jnp.isin(token, eos_ids) | (count >= tokens.shape[1])
        cache = cache._replace(length=length)
        return Decoding(cache, token, ended, count, tokens, state.number)

    return jax.lax.while_loop(go_on, step, state)


def _scores(logits_BxV: jax.Array, choice: Choice, state: Decoding) -> jax.Array:
    """What the largest of is chosen."""
    if isinstance(choice, Sampling):
        return _perturbed(logits_BxV, choice, state)
    if isinstance(choice, LeastLikely):  # not a word that the vocabulary only pads
        return jnp.where(jnp.isneginf(logits_BxV), -jnp.inf, -logits_BxV)
    return logits_BxV


def _perturbed(logits_BxV, sampling: Sampling, state: Decoding) -> jax.Array:
    """logits / temperature + Gumbel noise, whose largest is a draw of the softmax."""

    def noise(number, count):
        key = jax.random.fold_in(jax.random.fold_in(sampling.key, number), count)
        return jax.random.gumbel(key, logits_BxV.shape[1:], jnp.float32)

    drawn = jax.vmap(noise)(state.number, state.count)
    return logits_BxV.astype(jnp.float32) / sampling.temperature + drawn


def _argmax(logits_BxV: jax.Array) -> jax.Array:
    """The first of the largest: two plain reductions are faster than one of pairs."""
    top = jnp.max(logits_BxV, -1, keepdims=True)
    places = jnp.arange(logits_BxV.shape[-1], dtype=jnp.int32)
    best = jnp.where(logits_BxV == top, places, places[-1])
    return jnp.min(best, -1)
