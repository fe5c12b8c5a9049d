"""SAUL: any forget loss, descended only while the forget rows are known too well."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import bilevel
from ofmu_jax._optimizers import Optimizer, optimizer_of
from ofmu_jax.losses.margin import dual_ascent
from ofmu_jax.methods.base import BatchLoss, Method, Params, minibatch
from ofmu_jax.methods.rules.frozen import FORWARD_COST
from ofmu_jax.methods.rules.sharpness import passes, sharp_value_and_grad


class ConstrainedState(NamedTuple):
    """State of `constrained`."""

    forget: optax.OptState  # of the forget step's optimizer
    retain: optax.OptState  # of the retain step's
    multiplier: jax.Array  # λ; shape=(), dtype=float32


def constrained(
    forget_loss: BatchLoss,
    retain_loss: BatchLoss,
    optimizer: Optimizer,
    *,
    level: Callable[[Any], Any],
    measure: BatchLoss | None = None,
    dual_step: float = 1e-3,
    multiplier: float = 0.0,
    radius: float = 0.0,
) -> Method:
    """Minimises R subject to L_f ≥ α by an augmented Lagrangian (SAUL, 2026).

    An update is λ ← [λ + μ (α − L_f)]₊ with the L_f of its minibatch; a step along
    λ ∇F, only if λ > 0: where not, parameters and the optimizer's state stay as they
    are; then a step along ∇R from there. Each step has an optimizer state of its own
    (DualOptim), and gradients that are sharpness-aware.

    Args:
      forget_loss: F, to be minimised.
      retain_loss: R.
      optimizer: of each of the two steps.
      level: α of a forget batch, in the unit of L_f.
      measure: L_f, which costs a forward pass; None: −F.
      dual_step: μ.
      multiplier: λ before the first update.
      radius: ρ of `sharp_value_and_grad`, in both steps; a Python 0 leaves it out.
    """
    optimizer = optimizer_of("optimizer", optimizer)

    def init(params: Params) -> ConstrainedState:
        start = jnp.asarray(multiplier, jnp.float32)
        return ConstrainedState(optimizer.init(params), optimizer.init(params), start)

    def update(params, state, batches):
        batch = minibatch(batches, 0)
        forget, retain = batch["forget"], batch["retain"]
        value, g_f = sharp_value_and_grad(forget_loss, params, forget, radius)
        reached = -value if measure is None else measure(params, forget)
        short = level(forget) - reached
        weight = dual_ascent(state.multiplier, short, dual_step).astype(jnp.float32)
        scaled = optax.tree.scale(weight, bilevel.widen(g_f))
        scaled = optax.tree.cast_like(scaled, g_f)
        updates, inner = optimizer.update(scaled, state.forget, params)
        new = (optax.apply_updates(params, updates), inner)
        ascended, inner = jax.tree.map(
            lambda old, new: jnp.where(weight > 0, new, old),
            (params, state.forget),
            new,
        )
        l_r, g_r = sharp_value_and_grad(retain_loss, ascended, retain, radius)
        updates, outer = optimizer.update(g_r, state.retain, ascended)
        metrics = {
            "forget_loss": value,
            "retain_loss": l_r,
            "cosine": -bilevel.cosine(g_f, g_r),
            "multiplier": weight,
        }
        state = ConstrainedState(inner, outer, weight)
        return optax.apply_updates(ascended, updates), state, metrics

    cost = 2 * passes(radius) + (0 if measure is None else FORWARD_COST)
    return Method(init, update, 1, gradient_evaluations=cost, parameter_updates=2)
