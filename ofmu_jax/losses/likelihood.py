"""Cross-entropy losses on question-answer batches, and the names used most.

The families have modules of their own: `preference` (NPO, SimNPO, DPO), `reweighted`
(WGA, SatImp), `distillation` (KL, UNDIAL, CE-U), `representation` (RMU) and
`margin` (PDU); `tokens` says what a batch is.
"""

import jax
import jax.numpy as jnp

from ofmu_jax.losses import preference
from ofmu_jax.losses.preference import dpo as dpo
from ofmu_jax.losses.preference import simnpo as simnpo
from ofmu_jax.losses.tokens import IGNORED as IGNORED
from ofmu_jax.losses.tokens import ApplyFn as ApplyFn
from ofmu_jax.losses.tokens import Batch as Batch
from ofmu_jax.losses.tokens import Params as Params
from ofmu_jax.losses.tokens import sequence_nll as sequence_nll
from ofmu_jax.losses.tokens import token_nll as token_nll


def cross_entropy(apply_fn: ApplyFn, params: Params, batch: Batch) -> jax.Array:
    """Mean NLL over all scored tokens of the batch (as in the Hugging Face trainer)."""
    nll, count = sequence_nll(apply_fn, params, batch)
    return jnp.sum(nll) / jnp.maximum(jnp.sum(count), 1)


def negated_cross_entropy(apply_fn: ApplyFn, params: Params, batch: Batch) -> jax.Array:
    """−`cross_entropy`: what gradient ascent and GradDiff minimise on forget rows."""
    return -cross_entropy(apply_fn, params, batch)


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
    """`preference.npo` with its β named apart from the β of OFMU's similarity."""
    return preference.npo(apply_fn, params, batch, beta=npo_beta)
