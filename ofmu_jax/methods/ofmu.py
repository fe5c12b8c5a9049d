"""OFMU as a method: the transform, minibatches and the count of its cost."""

from typing import Any

import optax

from ofmu_jax import transform
from ofmu_jax.bilevel import is_static_zero
from ofmu_jax.methods.base import BatchLoss, Method, minibatch


def ofmu_method(forget_loss: BatchLoss, retain_loss: BatchLoss, **options) -> Method:
    """Builds OFMU; ``options`` are those of `ofmu_jax.ofmu`.

    ``forget_loss`` is the one Φ *maximises* (cross-entropy, bounded cross-entropy,
    the negated NPO loss). Each inner and each outer step has a minibatch of its own;
    the secant penalty reuses that of the last inner step.
    """
    tx = transform.ofmu(**options)
    inner_steps = options.get("inner_steps", 5)
    outer_steps = options.get("outer_steps", 1)

    def update(params, state, batches):
        unused: Any = None  # the transform takes the retain gradient itself
        updates, state = tx.update(
            unused,
            state,
            params,
            forget_loss=lambda p, i: forget_loss(p, minibatch(batches["forget"], i)),
            retain_loss=lambda p, i: retain_loss(p, minibatch(batches["retain"], i)),
        )
        metrics = {name: getattr(state, name) for name in transform.METRICS}
        return optax.apply_updates(params, updates), state, metrics

    return Method(
        tx.init,
        update,
        batches_per_update=inner_steps + outer_steps,
        gradient_evaluations=gradient_evaluations(**options),
        parameter_updates=inner_steps + outer_steps,
    )


def gradient_evaluations(
    *,
    inner_steps: int = 5,
    outer_steps: int = 1,
    beta=0.1,
    rho=1e-3,
    curvature: str = "vjp",
    retain_direction: str = "fresh",
    penalty_gradient: str = "exact",
    **_,
) -> float:
    """Cost of one outer iteration in gradients of one batch.

    Counted from the operations (a Hessian-vector product costs two gradients, an
    exact product with ∇²Φ twice ∇Φ itself):
    ∇Φ costs 6 with exact curvature, 8 where its products start anew (``"jvp"``), 4
    with differences, and half of that with a frozen direction; the exact penalty
    costs twice ∇Φ, three times with ``"jvp"``.
    """
    if is_static_zero(beta):
        phi = 1.0
    else:
        phi = {"finite_difference": 4.0, "jvp": 8.0}.get(curvature, 6.0)
        phi /= 2 if retain_direction == "frozen" else 1
    once = 1.0 if retain_direction == "frozen" and not is_static_zero(beta) else 0.0
    inner = once + inner_steps * phi
    retain = 1.0
    if is_static_zero(rho):
        return inner + outer_steps * retain
    if penalty_gradient == "secant":
        return inner + phi + outer_steps * retain
    if penalty_gradient == "finite_difference":
        outer = 2 * phi
    else:
        outer = phi * {"finite_difference": 4.5, "jvp": 4.0}.get(curvature, 3.0)
    # ∇Φ contains the retain gradient unless its direction is frozen or β = 0.
    shared = retain_direction == "fresh" and not is_static_zero(beta)
    return inner + outer_steps * (outer + (0.0 if shared else retain))
