"""Forget losses for Φ of OFMU, which is *maximised*.

All but plain cross-entropy are bounded above, so that their ascent can come to rest.
"""

import functools
from collections.abc import Callable
from typing import Literal, get_args

import jax

from ofmu_jax.losses import likelihood
from ofmu_jax.losses.tokens import ApplyFn, Batch, Params

Ascended = Literal["cross_entropy", "target_cross_entropy", "npo", "simnpo"]
ASCENDED = get_args(Ascended)


def ascended_loss(
    name: Ascended,
    apply_fn: ApplyFn,
    *,
    target: float | jax.Array | None = None,
    npo_beta: float | jax.Array = 0.1,
    simnpo_beta: float | jax.Array = 4.5,
    simnpo_delta: float | jax.Array = 0.0,
) -> Callable[[Params, Batch], jax.Array]:
    """The loss ``name`` of ``(params, batch)`` with the sign of L_f in Φ.

    Args:
      name: one of ``ASCENDED``; ``"npo"`` (bounded by 0; its batches must carry
        ``reference_nll``) and ``"simnpo"`` are the negated losses.
      target: of ``"target_cross_entropy"``, in nats per token; None: each batch
        carries its own as ``target_nll`` (B,), so that one compiled step serves runs
        with different targets.
    """
    if name == "cross_entropy":
        return functools.partial(likelihood.cross_entropy, apply_fn)
    if name == "target_cross_entropy":
        return lambda p, b: likelihood.target_cross_entropy(
            apply_fn, p, b, target=_target_of(b) if target is None else target
        )
    if name == "npo":
        return lambda p, b: -likelihood.npo(apply_fn, p, b, npo_beta=npo_beta)
    if name == "simnpo":
        return lambda p, b: (
            -likelihood.simnpo(apply_fn, p, b, beta=simnpo_beta, delta=simnpo_delta)
        )
    raise ValueError(f"forget loss {name!r} is unknown; choose one of {ASCENDED}.")


def _target_of(batch: Batch) -> jax.Array:
    if "target_nll" not in batch:
        raise ValueError(
            "target_cross_entropy needs a target, the mean NLL to ascend to, or "
            "batch['target_nll'] with one for each sequence."
        )
    return batch["target_nll"]
