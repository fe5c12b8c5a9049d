"""Losses of the preference family: the forget answer is the one not preferred.

In all of them s is the summed NLL of a sequence, N its number of scored tokens, s⁰ the
summed NLL under the model before unlearning (``reference_nll``, shape (B,), computed
once and carried in the batch) and σ the logistic function. All are to be minimised
and all are bounded below by 0, so their negatives suit an ascent as well.
"""

import jax
import jax.numpy as jnp

from ofmu_jax.losses.tokens import ApplyFn, Batch, Params, required, sequence_nll

_REFERENCE = (
    "the summed NLL of each sequence under the model before unlearning; "
    "compute it with sequence_nll"
)


def npo(
    apply_fn: ApplyFn, params: Params, batch: Batch, *, beta: float | jax.Array = 0.1
) -> jax.Array:
    """Negative preference optimisation (arXiv 2404.05868, eq. 3).

    −(2/β) mean log σ(β (s − s⁰)), the mean over sequences. It falls towards 0 as the
    NLL grows. For β → 0 its gradient is that of gradient ascent on s, and at the
    reference itself it is so for every β.
    """
    reference = required(batch, "reference_nll", "npo", _REFERENCE)
    nll, _ = sequence_nll(apply_fn, params, batch)
    return _penalty(nll - reference, beta)


def simnpo(
    apply_fn: ApplyFn,
    params: Params,
    batch: Batch,
    *,
    beta: float | jax.Array = 4.5,
    delta: float | jax.Array = 0.0,
) -> jax.Array:
    """NPO without a reference, per token (SimNPO, arXiv 2410.07163).

    −(2/β) mean log σ(β (s/N − δ)). δ (in nats per token) is the level of NLL that
    takes the reference's place. The paper writes its margin as γ = βδ, inside σ but
    outside the product with β.
    """
    nll, count = sequence_nll(apply_fn, params, batch)
    return _penalty(nll / jnp.maximum(count, 1) - delta, beta)


def dpo(
    apply_fn: ApplyFn, params: Params, batch: Batch, *, beta: float | jax.Array = 0.1
) -> jax.Array:
    """Direct preference optimisation towards another answer (arXiv 2305.18290, eq. 7).

    −(2/β) mean log σ(β [(s⁰ − s) of the alternative − (s⁰ − s) of the forget answer]).
    With refusals for alternatives this is IdkDPO (arXiv 2401.06121 and 2404.05868);
    the factor 2/β, which the DPO paper has not, makes it comparable with NPO.

    Args:
      batch: a forget batch with ``reference_nll`` and, row by row, the preferred
        answer: ``alternative``, a dict of ``input_ids``, ``labels`` and
        ``attention_mask`` (B, L'), and ``alternative_reference_nll`` (B,).
    """
    reference = required(batch, "reference_nll", "dpo", _REFERENCE)
    alternative = required(
        batch, "alternative", "dpo", "a batch of the preferred answers (refusals)"
    )
    alternative_reference = required(
        batch, "alternative_reference_nll", "dpo", _REFERENCE
    )
    forget, _ = sequence_nll(apply_fn, params, batch)
    preferred, _ = sequence_nll(apply_fn, params, alternative)
    return _penalty((forget - reference) - (preferred - alternative_reference), beta)


def _penalty(margin_B: jax.Array, beta: float | jax.Array) -> jax.Array:
    """−(2/β) mean log σ(β · margin): large while the forget answer is preferred."""
    return -2 / beta * jnp.mean(jax.nn.log_sigmoid(beta * margin_B))
