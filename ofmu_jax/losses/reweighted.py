"""Gradient ascent with a weight for every token.

Both losses are −mean over the batch's answer tokens of w · NLL, to be minimised, with
p = exp(−NLL) the probability of the token and a weight w(p) that no gradient passes
through. Plain gradient ascent is w = 1 and runs away, for it pushes hardest where
p is smallest; a weight that falls with p lets go of what is forgotten already.
"""

import jax
import jax.numpy as jnp

from ofmu_jax.losses.tokens import (
    ApplyFn,
    Batch,
    Params,
    masked_mean,
    outputs_of,
    token_nll,
)


def wga(
    apply_fn: ApplyFn, params: Params, batch: Batch, *, beta: float | jax.Array = 1.0
) -> jax.Array:
    """Weighted gradient ascent, w = p^β (arXiv 2502.19301)."""
    nll, scored = token_nll(outputs_of(apply_fn, params, batch), batch["labels"])
    weight = jax.lax.stop_gradient(jnp.exp(-beta * nll))
    return -masked_mean(weight * nll, scored)


def satimp(
    apply_fn: ApplyFn,
    params: Params,
    batch: Batch,
    *,
    beta1: float | jax.Array = 5.0,
    beta2: float | jax.Array = 1.0,
) -> jax.Array:
    """Saturation and importance, w = p^β₁ (1 − p)^β₂ (SatImp, arXiv 2505.11953).

    The first factor lets go of saturated tokens, those with small p; the second of
    tokens that the model is sure of whatever it knows, such as the ends of words.
    """
    nll, scored = token_nll(outputs_of(apply_fn, params, batch), batch["labels"])
    fixed = jax.lax.stop_gradient(nll)
    one_minus_p = -jnp.expm1(-fixed)  # exact where p is close to 1
    weight = jnp.exp(-beta1 * fixed) * one_minus_p**beta2
    return -masked_mean(weight * nll, scored)
