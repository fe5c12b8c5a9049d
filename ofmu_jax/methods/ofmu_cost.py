"""What an update of OFMU costs, counted in gradients."""

from ofmu_jax import choices
from ofmu_jax.bilevel import is_static_zero


def gradient_evaluations(
    *,
    inner_steps: int = 5,
    outer_steps: int = 1,
    beta=0.1,
    rho=1e-3,
    curvature: choices.Curvature = "vjp",
    retain_direction: choices.RetainDirection = "fresh",
    penalty: choices.Penalty = "gradient_norm",
    penalty_gradient: choices.PenaltyGradient = "exact",
    looks: int = 0,
    **_,
) -> float:
    """Cost of one outer iteration in gradients of one batch.

    Counted from the operations (a Hessian-vector product costs two gradients, an
    exact product with ∇²Φ twice ∇Φ itself):
    ∇Φ costs 6 with exact curvature, 8 where its products start anew (``"jvp"``), 4
    with differences or a look-ahead, and half of that with a direction that is held,
    which costs 1 where it is ``"frozen"`` and nothing where it is ``"carried"``. A
    look-ahead that is held makes ∇Φ 1, and costs 2 where it is frozen. The exact
    penalty costs twice ∇Φ, three times with ``"jvp"``; the value gap one ∇Φ, or
    nothing where it is carried. Each of the ``looks``, the forward passes of an inner
    optimizer that checks its steps, is a third of a gradient.
    """
    similar = not is_static_zero(beta)
    held = similar and retain_direction != "fresh"
    ahead = held and curvature == "lookahead"
    phi, once = 1.0, 0.0
    if similar and not ahead:
        phi = {"finite_difference": 4.0, "lookahead": 4.0, "jvp": 8.0}.get(
            curvature, 6.0
        )
        phi /= 2 if held else 1
    if held and retain_direction == "frozen":
        once = 2.0 if ahead else 1.0
    inner = once + inner_steps * phi + looks / 3
    retain = 1.0
    if is_static_zero(rho) or penalty_gradient == "carried":
        return inner + outer_steps * retain
    if penalty_gradient == "secant":
        return inner + phi + outer_steps * retain
    if penalty == "value_gap":
        outer = phi
    elif penalty_gradient == "finite_difference":
        outer = 2 * phi
    elif curvature == "lookahead" and similar and not held:
        outer = 18.0  # of exact second derivatives
    else:
        outer = phi * {"finite_difference": 4.5, "jvp": 4.0}.get(curvature, 3.0)
    # ∇Φ contains the retain gradient unless its direction is held or β = 0.
    shared = similar and not held
    return inner + outer_steps * (outer + (0.0 if shared else retain))
