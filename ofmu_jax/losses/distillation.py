"""Losses that compare whole next-token distributions.

``positions`` says over which predictions they average: ``"answer"``, those of scored
tokens, or ``"all"``, every position of the batch, prompt and padding included. The
published code of UNDIAL and of the KL retain term averages over all; that makes the
loss depend on how long the padding is, so here ``"answer"`` is the default.

The reference model is a second tree of parameters for the same ``apply_fn``; no
gradient flows into it.
"""

import jax
import jax.numpy as jnp

from ofmu_jax.losses.tokens import (
    ApplyFn,
    Batch,
    Params,
    Positions,
    check_positions,
    logits_of,
    masked_mean,
    next_labels,
)


def kl_to_reference(
    apply_fn: ApplyFn,
    params: Params,
    batch: Batch,
    reference_params: Params,
    *,
    positions: Positions = "answer",
) -> jax.Array:
    """Mean KL(reference ‖ current) of next-token distributions (arXiv 2401.06121).

    Σ_v p⁰_v (log p⁰_v − log p_v), averaged over positions; with ``"all"`` over B · L
    of them, the last one of each row included although nothing follows it.
    """
    check_positions(positions)
    log_p = jax.nn.log_softmax(logits_of(apply_fn, params, batch))
    reference = _frozen_logits(apply_fn, reference_params, batch)
    log_p0 = jax.nn.log_softmax(reference)
    kl_BxL = jnp.sum(jnp.exp(log_p0) * (log_p0 - log_p), -1)
    if positions == "all":
        return jnp.mean(kl_BxL)
    return masked_mean(kl_BxL[:, :-1], next_labels(batch["labels"])[1])


def undial(
    apply_fn: ApplyFn,
    params: Params,
    batch: Batch,
    teacher_params: Params,
    *,
    beta: float | jax.Array = 10.0,
    positions: Positions = "answer",
) -> jax.Array:
    """Self-distillation from adjusted logits (UNDIAL, arXiv 2402.10052).

    Cross-entropy of the model against softmax(z⁰ − β 1[label]): the logits z⁰ of the
    model before unlearning, with β taken from that of the token to forget.

    ``positions="all"`` is what the published code computes from this batch: it averages
    over all B (L − 1) predictions, padding included, so that the loss depends on how
    far rows are padded (theirs are to the longest of the batch), and where a label is
    −100 it takes β from entry V − 100 of the vocabulary, as negative indices count
    from the end.
    """
    check_positions(positions)
    labels, scored = next_labels(batch["labels"])
    log_p = jax.nn.log_softmax(logits_of(apply_fn, params, batch))[:, :-1]
    teacher = _frozen_logits(apply_fn, teacher_params, batch)[:, :-1]
    if positions == "all":
        size = teacher.shape[-1]
        labels = jnp.where(scored, labels, (size - 100) % size)
    adjusted = teacher - beta * jax.nn.one_hot(labels, teacher.shape[-1])
    loss = -jnp.sum(jax.nn.softmax(adjusted) * log_p, -1)
    return jnp.mean(loss) if positions == "all" else masked_mean(loss, scored)


def ceu(
    apply_fn: ApplyFn, params: Params, batch: Batch, *, skip_first: int = 1
) -> jax.Array:
    """Cross-entropy unlearning (CE-U, arXiv 2503.01224), to be minimised.

    Cross-entropy of the model against its own distribution without the true token:
    softmax of its logits, held fixed, with that of the true token at −∞. Averaged
    over scored tokens but for the first ``skip_first`` of each answer, which the
    model has to guess from the question alone. Its gradient in the logits of a
    position with probability p of the true token is p at that token and
    −p p_v / (1 − p) at the others: bounded, and it fades as p does.
    """
    labels, scored = next_labels(batch["labels"])
    scored &= jnp.cumsum(scored, -1) > skip_first
    logits = logits_of(apply_fn, params, batch)[:, :-1]
    true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    target = jax.nn.softmax(jnp.where(true, -jnp.inf, jax.lax.stop_gradient(logits)))
    loss = -jnp.sum(target * jax.nn.log_softmax(logits), -1)
    return masked_mean(loss, scored)


def _frozen_logits(apply_fn: ApplyFn, params: Params, batch: Batch) -> jax.Array:
    return jax.lax.stop_gradient(logits_of(apply_fn, params, batch))
