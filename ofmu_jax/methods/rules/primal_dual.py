"""Primal-dual unlearning: the retain weight is a multiplier that adapts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import bilevel
from ofmu_jax._optimizers import Optimizer, optimizer_of
from ofmu_jax.losses.margin import dual_ascent
from ofmu_jax.methods.base import BatchLoss, Method, Params, minibatch


class PrimalDualState(NamedTuple):
    """State of `primal_dual`."""

    optimizer: optax.OptState
    multiplier: jax.Array  # λ; shape=(), dtype=float32
    count: jax.Array  # updates so far; shape=(), dtype=int32


def primal_dual(
    forget_loss: BatchLoss,
    retain_loss: BatchLoss,
    optimizer: Optimizer,
    *,
    epsilon: float,
    forget_weight: float = 1.0,
    multiplier: float = 1.0,
    dual_step: float = 1.0,
    warmup_updates: int = 0,
) -> Method:
    """Minimises γ F subject to R ≤ ε (PDU, arXiv 2506.05314).

    Each update descends γ F + λ (R − ε) in the parameters with the λ it came with;
    then, from update ``warmup_updates`` + 1 on, λ ← max(0, λ + η (R − ε)), with the
    R of the minibatch before the step.

    Args:
      forget_loss: F, to be minimised (`losses.constrained.logit_margin`).
      retain_loss: R.
      epsilon: ε, in the unit of R. The paper suggests (1 + tolerance) times the R of
        the model before unlearning.
      forget_weight: γ.
      multiplier: λ before the first update.
      dual_step: η.
      warmup_updates: how many updates λ stays put.
    """
    optimizer = optimizer_of("optimizer", optimizer)

    def init(params: Params) -> PrimalDualState:
        return PrimalDualState(
            optimizer.init(params),
            jnp.asarray(multiplier, jnp.float32),
            jnp.zeros((), jnp.int32),
        )

    def update(params, state, batches):
        batch = minibatch(batches, 0)
        l_f, g_f = jax.value_and_grad(forget_loss)(params, batch["forget"])
        l_r, g_r = jax.value_and_grad(retain_loss)(params, batch["retain"])
        gradient = optax.tree.add(
            optax.tree.scale(forget_weight, g_f),
            optax.tree.scale(state.multiplier, bilevel.widen(g_r)),
        )
        gradient = optax.tree.cast_like(gradient, g_f)
        updates, inner = optimizer.update(gradient, state.optimizer, params)
        moved = dual_ascent(state.multiplier, l_r - epsilon, dual_step)
        warm = state.count >= warmup_updates
        metrics = {
            "forget_loss": l_f,
            "retain_loss": l_r,
            "cosine": -bilevel.cosine(g_f, g_r),
            "multiplier": state.multiplier,
        }
        state = PrimalDualState(
            inner,
            jnp.where(warm, moved, state.multiplier).astype(jnp.float32),
            jnp.asarray(optax.safe_increment(state.count)),
        )
        return optax.apply_updates(params, updates), state, metrics

    return Method(init, update, batches_per_update=1, gradient_evaluations=2)
