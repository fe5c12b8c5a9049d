r"""OFMU as an optax transform: one call of ``update`` is one outer iteration."""

from typing import Any

import jax
import optax

from ofmu_jax._loops import METRICS as METRICS
from ofmu_jax._loops import Loops
from ofmu_jax._loops import OfmuState as OfmuState
from ofmu_jax.bilevel import LOOKAHEAD_MAX_STEP, AdaptiveRho, Params, StepLossFn


def ofmu(
    outer_optimizer: optax.GradientTransformation,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int = 5,
    beta: float | jax.Array = 0.1,
    rho: float | jax.Array | optax.Schedule | AdaptiveRho | str = 1e-3,
    similarity: str = "cosine",
    base: str = "inner",
    curvature: str = "vjp",
    outer_steps: int = 1,
    retain_direction: str = "fresh",
    penalty: str = "gradient_norm",
    penalty_gradient: str = "exact",
    penalty_clip: float | jax.Array | None = None,
    maximum: float | jax.Array | None = None,
    lookahead_max_step: float | jax.Array = LOOKAHEAD_MAX_STEP,
    forget_target: float | jax.Array | None = None,
    unroll: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The two loops of OFMU (arXiv 2509.22483) around two optax optimizers.

    One update takes T = ``inner_steps`` steps of ascent on
    :math:`Φ = L_f − β S(c)` and then ``outer_steps`` steps of descent on
    :math:`F = L_r + ρ_k ‖∇Φ‖²` from θ'_T; the returned update is their sum. ``update``
    needs ``forget_loss`` and ``retain_loss``, called as ``loss(params, step)`` with
    a traced integer ``step``: 0 … T−1 in the inner loop, T + j in outer step
    j = 0 … ``outer_steps`` − 1, so that a caller can index stacked minibatches
    (or ignore it). The ``grads`` argument is not used and may be None; wrappers that
    read it, such as `optax.MultiSteps`, need a tree: ``optax.tree.zeros_like(params)``.

    Args:
      outer_optimizer: descends F; any optax optimizer.
      inner_optimizer: ascends Φ; its state is carried from one update to the next.
      inner_steps: T.
      beta: weight β of the similarity; a Python 0 drops the term and its cost.
      rho: penalty weight ρ, or a schedule of the outer iteration k (the paper's
        :math:`ρ_{k+1} = γ ρ_k` is ``optax.exponential_decay(rho_0, 1, gamma)``).
        ``"adaptive"``, or an `AdaptiveRho`, follows the gap of Φ to ``maximum`` as a
        multiplier does. A Python 0 drops the penalty and its cost.
      similarity: ``"cosine"`` (the paper's) or ``"squared_cosine"``.
      base: ``"inner"`` descends from θ'_T, the warm start; ``"outer"`` applies the
        same outer updates at θ_k, as equation θ_{k+1} = θ_k − … reads.
      curvature: of ∇Φ: ``"vjp"``, ``"linearize"``, ``"jvp"`` (which needs the least
        memory of the exact ones), ``"finite_difference"``, or ``"lookahead"``: the
        forget gradient at θ − βS'(c)u_f, which is ∇Φ to first order in β, and no
        gradient is differentiated.
      outer_steps: outer steps per inner loop.
      retain_direction: ``"fresh"`` recomputes ĝ_r in each inner step; ``"frozen"``
        takes it once per update, at θ_k on the batch of step 0; ``"carried"`` has it
        from the last outer step of the update before, at no cost (the first update
        has none, and no similarity). The penalty, Φ and ‖∇Φ‖ are then those of Φ with
        that direction held constant; the cosine is not. With ``"lookahead"`` the whole
        shift is held or carried, and ∇Φ costs one gradient.
      penalty: ``"gradient_norm"``, the paper's ‖∇Φ‖², or ``"value_gap"``: (Φ* − Φ)₊.
      penalty_gradient: ``"exact"`` third derivatives; ``"finite_difference"`` of ∇Φ
        along ∇Φ; ``"secant"`` from the last inner step (see
        `bilevel.secant_product`), computed once and shared by the outer steps. Of the
        value gap: ``"exact"``, in each outer step, or ``"carried"``, the ∇Φ of the last
        inner step, at no cost.
      penalty_clip: the penalty's norm is at most this multiple of ‖∇L_r‖.
      maximum: Φ*, what Φ cannot exceed: 0 for a forget loss that 0 bounds, and β more
        with the plain cosine. For the value gap and the adaptive ρ.
      lookahead_max_step: the longest shift of a look-ahead, in norms of the parameters.
      forget_target: inner steps rest while L_f is at or above it.
      unroll: write both loops out in the program: for convolutions on a CPU, which
        XLA computes far slower within a loop (github.com/jax-ml/jax/issues/12868).

    Returns:
      A transform whose state shows Φ, L_f, L_r, the cosine, ‖∇Φ‖ and ρ of the last
      update (`OfmuState`). With a Python ``rho=0`` they come from the last inner
      step, so from θ'_{T−1} (except L_r), and with ``beta=0`` as well the cosine is
      NaN, for nothing needs it. With ``"secant"`` the cosine pairs the last two
      batches. Inner steps rest from where L_f or ∇Φ is not finite (see
      `inner_ascent`); ``inner_moves`` counts those that did not. Bfloat16 parameters
      are iterated in float32 and only the update is cast back; the losses see
      bfloat16 unless differences of gradients are asked for, which it would round
      away. Integers among the parameters are constants: their update is 0.

    Raises:
      ValueError: for an unknown option, options that do not fit each other, a count
        that is not a Python integer or too small, or (in ``update``) a missing
        ``params`` or loss, or a loss that is not a scalar.

    >>> import jax.numpy as jnp
    >>> tx = ofmu(optax.sgd(0.1), optax.sgd(0.1), inner_steps=1, beta=0.0, rho=0.0)
    >>> theta = jnp.array([1.0])
    >>> updates, state = tx.update(
    ...     None, tx.init(theta), theta,
    ...     forget_loss=lambda p, step: 3.0 * p.sum(),
    ...     retain_loss=lambda p, step: 0.5 * (p**2).sum(),
    ... )
    >>> print(updates.round(4))  # + 0.1 * 3, then − 0.1 * 1.3
    [0.17]
    """
    loops = Loops(
        optax.with_extra_args_support(outer_optimizer),
        optax.with_extra_args_support(inner_optimizer),
        inner_steps,
        beta,
        rho,
        similarity,
        base,
        curvature,
        outer_steps,
        retain_direction,
        penalty,
        penalty_gradient,
        penalty_clip,
        maximum,
        lookahead_max_step,
        forget_target,
        unroll,
    )
    loops.check()

    def update_fn(
        updates: Params,
        state: Any,  # OfmuState
        params: Params | None = None,
        *,
        forget_loss: StepLossFn | None = None,
        retain_loss: StepLossFn | None = None,
        **extra_args: Any,
    ) -> tuple[Any, OfmuState]:
        del updates  # the retain gradient counts at θ'_T, not at θ_k
        if params is None or forget_loss is None or retain_loss is None:
            raise ValueError(
                "ofmu needs params and both losses: call tx.update(grads, state, "
                "params, forget_loss=..., retain_loss=...), loss(params, step)."
            )
        return loops.iterate(params, state, forget_loss, retain_loss, extra_args)

    return optax.GradientTransformationExtraArgs(loops.init, update_fn)


def fill_masked(params: Params, full: Params) -> Params:
    """Puts the leaves of ``full`` where ``params`` holds an `optax.MaskedNode`.

    Under `optax.masked` or `optax.partition` a transform sees masked parameters, and
    so would the losses: ``forget_loss=lambda p, i: loss(fill_masked(p, params), i)``.
    """
    hidden = lambda x: isinstance(x, optax.MaskedNode)
    return jax.tree.map(
        lambda part, whole: whole if hidden(part) else part,
        params,
        full,
        is_leaf=hidden,
    )
