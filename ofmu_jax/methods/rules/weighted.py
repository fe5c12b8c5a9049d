"""One-level methods: descend a fixed weighting of the forget and the retain loss.

Gradient ascent minimises −L_f, GradDiff −γ L_f + α L_r (arXiv 2401.06121), NPO with
a retain term γ L_NPO + α L_r (arXiv 2404.05868): they differ in the forget loss, so
``forget_loss`` here is always the one to be *minimised*.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from ofmu_jax import bilevel
from ofmu_jax._optimizers import Optimizer, optimizer_of
from ofmu_jax.methods.base import (
    Batches,
    BatchLoss,
    Method,
    Metrics,
    Params,
    minibatch,
)
from ofmu_jax.methods.rules.sharpness import passes, sharp_value_and_grad


def descend(
    loss: BatchLoss,
    optimizer: Optimizer,
    part: str,
    *,
    weight: float = 1.0,
    cost: float = 1,
) -> Method:
    """Minimises ``weight`` times one loss on the batches of one part."""
    optimizer = optimizer_of("optimizer", optimizer)

    def update(params, state, batches):
        value, gradient = jax.value_and_grad(loss)(params, minibatch(batches[part], 0))
        metrics = {f"{part}_loss": value, f"{part}_grad_norm": bilevel.norm(gradient)}
        gradient = optax.tree.scale(weight, gradient)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, metrics

    return Method(optimizer.init, update, 1, gradient_evaluations=cost)


def gradient_ascent(forget_loss: BatchLoss, optimizer: Optimizer) -> Method:
    """Minimises ``forget_loss`` alone; hand it the negated cross-entropy."""
    return descend(forget_loss, optimizer, "forget")


def weighted_sum(g_f: Any, g_r: Any, *, forget_weight: Any, retain_weight: Any) -> Any:
    """γ g_f + α g_r of the gradients of two losses."""
    f, r = optax.tree.scale(forget_weight, g_f), optax.tree.scale(retain_weight, g_r)
    return optax.tree.add(f, r)


def both_gradients(
    forget_loss: BatchLoss,
    retain_loss: BatchLoss,
    params: Params,
    batches: Batches,
    *,
    radius: float = 0.0,
) -> tuple[Params, Params, Metrics]:
    """g_f, g_r of the first minibatch, and what is reported of them.

    Args:
      radius: at which the forget gradient is taken (`sharp_value_and_grad`).
    """
    batch = minibatch(batches, 0)
    l_f, g_f = sharp_value_and_grad(forget_loss, params, batch["forget"], radius)
    l_r, g_r = jax.value_and_grad(retain_loss)(params, batch["retain"])
    metrics = {
        "forget_loss": l_f,
        "retain_loss": l_r,
        # Of the gradients of the two losses as OFMU has them: L_f is ascended.
        "cosine": -bilevel.cosine(g_f, g_r),
    }
    return g_f, g_r, metrics


def weighted_difference(
    forget_loss: BatchLoss,
    retain_loss: BatchLoss,
    optimizer: Optimizer,
    *,
    forget_weight: float = 1.0,
    retain_weight: float = 1.0,
    forget_cost: float = 1,
    forget_radius: float = 0.0,
    direction: Callable[..., Any] = weighted_sum,
) -> Method:
    """Minimises γ ``forget_loss`` + α ``retain_loss`` (γ = α = 1 by default).

    Args:
      forget_weight: γ.
      retain_weight: α; a Python 0 leaves the retain loss out, and its cost.
      forget_cost: gradients of one batch that the forget loss takes: 2 if it reads
        two batches, as DPO does.
      forget_radius: ρ of sharpness-aware minimisation of the forget loss alone, which
        takes its gradient twice; a Python 0 leaves it out.
      direction: from both gradients and weights to what the optimizer gets, so that
        clipping acts on it.
    """
    if bilevel.is_static_zero(retain_weight) and bilevel.is_static_zero(forget_radius):
        return descend(
            forget_loss, optimizer, "forget", weight=forget_weight, cost=forget_cost
        )
    optimizer = optimizer_of("optimizer", optimizer)

    def update(params, state, batches):
        g_f, g_r, metrics = both_gradients(
            forget_loss, retain_loss, params, batches, radius=forget_radius
        )
        weights = {"forget_weight": forget_weight, "retain_weight": retain_weight}
        gradient = direction(g_f, g_r, **weights)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, metrics

    cost = forget_cost * passes(forget_radius) + 1
    return Method(optimizer.init, update, 1, gradient_evaluations=cost)


def fine_tune(retain_loss: BatchLoss, optimizer: Optimizer) -> Method:
    """Minimises ``retain_loss`` alone: how targets and references are trained."""
    return descend(retain_loss, optimizer, "retain")
