"""Losses of language models on question-answer batches.

A batch is a dict of arrays of shape (B, L): ``input_ids``, ``labels`` (−100 where a
token is not scored) and ``attention_mask`` (1 where a key may be attended to); the
forget batches of reference-based losses also carry ``reference_nll`` of shape (B,).
``apply_fn(params, input_ids, attention_mask)`` gives logits of shape (B, L, V).
"""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

Params = Any
Batch = Mapping[str, jax.Array]
ApplyFn = Callable[[Params, jax.Array, jax.Array], jax.Array]

IGNORED = -100  # the label of tokens that are not scored


def token_nll(
    logits_BxLxV: jax.Array, labels_BxL: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood of each next token, and the mask of scored ones.

    Position t predicts token t + 1, so both results have shape (B, L − 1); the first
    is 0 where the second is False. Computed in float32 whatever the logits' dtype.
    """
    chex.assert_rank([logits_BxLxV, labels_BxL], [3, 2])
    labels = labels_BxL[:, 1:]
    scored = labels != IGNORED
    logits = logits_BxLxV[:, :-1].astype(
        jnp.promote_types(logits_BxLxV.dtype, jnp.float32)
    )
    log_p = jax.nn.log_softmax(logits)
    index = jnp.where(scored, labels, 0)[..., None]
    nll = -jnp.take_along_axis(log_p, index, -1)[..., 0]
    return jnp.where(scored, nll, 0), scored


def sequence_nll(
    apply_fn: ApplyFn, params: Params, batch: Batch
) -> tuple[jax.Array, jax.Array]:
    """Summed NLL s and number N of scored tokens of each sequence, both (B,)."""
    logits = apply_fn(params, batch["input_ids"], batch["attention_mask"])
    nll, scored = token_nll(logits, batch["labels"])
    return jnp.sum(nll, -1), jnp.sum(scored, -1)


def cross_entropy(apply_fn: ApplyFn, params: Params, batch: Batch) -> jax.Array:
    """Mean NLL over all scored tokens of the batch (as in the Hugging Face trainer)."""
    nll, count = sequence_nll(apply_fn, params, batch)
    return jnp.sum(nll) / jnp.maximum(jnp.sum(count), 1)


def target_cross_entropy(
    apply_fn: ApplyFn, params: Params, batch: Batch, *, target: float | jax.Array
) -> jax.Array:
    """−½ mean over sequences of (target − s/N)²: cross-entropy up to a target.

    For a loss that is to be *maximised*: plain cross-entropy has no maximum, so its
    ascent never rests. This one has its maximum, 0, where the mean NLL of every
    sequence is the target, say that of a model which never saw it. The gradient fades
    on the way there, gives most weight to what is remembered best, and turns round
    for a sequence that was pushed beyond: to be improbable far below the level of
    ignorance would show, too, that it was there.
    """
    nll, count = sequence_nll(apply_fn, params, batch)
    gap = target - nll / jnp.maximum(count, 1)
    return -jnp.mean(gap**2) / 2


def npo(
    apply_fn: ApplyFn, params: Params, batch: Batch, *, npo_beta: float | jax.Array
) -> jax.Array:
    """Negative preference optimisation, to be minimised (arXiv 2404.05868, eq. 3).

    −(2/β) mean log σ(β (s − s⁰)) with s the summed NLL of a sequence and s⁰ the same
    under the reference, ``batch["reference_nll"]``. It falls towards 0 as the NLL
    grows, so its negative is bounded above. β = 0.1 is usual.
    """
    if "reference_nll" not in batch:
        raise ValueError(
            "npo needs batch['reference_nll'], the summed NLL of each sequence under "
            "the model before unlearning; compute it with sequence_nll."
        )
    nll, _ = sequence_nll(apply_fn, params, batch)
    margin = npo_beta * (nll - batch["reference_nll"])
    return -2 / npo_beta * jnp.mean(jax.nn.log_sigmoid(margin))
