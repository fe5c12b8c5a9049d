r"""OFMU as an optax transform: one call of ``update`` is one outer iteration."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import optax

from ofmu_jax import _trees, choices
from ofmu_jax._loops import METRICS as METRICS
from ofmu_jax._loops import Loops
from ofmu_jax._loops import OfmuState as OfmuState
from ofmu_jax._optimizers import Optimizer, optimizer_of
from ofmu_jax.bilevel import LOOKAHEAD_MAX_STEP, AdaptiveRho, Params, StepLossFn

RhoRule = Literal["adaptive"]


def ofmu(
    outer_optimizer: Optimizer,
    inner_optimizer: Optimizer,
    inner_steps: int = 5,
    beta: float | jax.Array = 0.1,
    rho: float | jax.Array | optax.Schedule | AdaptiveRho | RhoRule = 1e-3,
    similarity: choices.Similarity = "cosine",
    base: choices.Base = "inner",
    curvature: choices.Curvature = "vjp",
    outer_steps: int = 1,
    retain_direction: choices.RetainDirection = "fresh",
    penalty: choices.Penalty = "gradient_norm",
    penalty_gradient: choices.PenaltyGradient = "exact",
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
    Under `optax.masked` and `optax.partition`, which hide parameters from it, and
    `optax.flatten`, which makes one vector of them, give ``update`` also
    ``full_params=params``: the losses then see them as they are, the hidden ones as
    constants. `with_losses` around any of these does both, and within what passes no
    arguments on has the losses bound.

    Args:
      outer_optimizer: descends F; any optax optimizer, or the rate of plain SGD.
      inner_optimizer: likewise ascends Φ; its state is carried from one update to the
        next.
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
      TypeError: for an optimizer that is none.
      ValueError: for an unknown option, options that do not fit each other, a count
        that is not a Python integer or too small, or (in ``update``) a missing
        ``params`` or loss, a loss that is not a scalar, or one that fails on hidden
        or flattened parameters.

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
        optimizer_of("outer_optimizer", outer_optimizer),
        optimizer_of("inner_optimizer", inner_optimizer),
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
        full_params: Params | None = None,
        **extra_args: Any,
    ) -> tuple[Any, OfmuState]:
        del updates  # the retain gradient counts at θ'_T, not at θ_k
        if params is None or forget_loss is None or retain_loss is None:
            raise ValueError(
                "ofmu needs params and both losses: call tx.update(grads, state, "
                "params, forget_loss=..., retain_loss=...), loss(params, step); within "
                "what passes no arguments on (TrainState, lookahead, sam) put "
                "ofmu_jax.with_losses(tx, forget_loss, retain_loss) in place of tx."
            )
        losses = (
            _of_visible("forget_loss", forget_loss, full_params),
            _of_visible("retain_loss", retain_loss, full_params),
        )
        return loops.iterate(params, state, *losses, extra_args)

    return optax.GradientTransformationExtraArgs(loops.init, update_fn)


def with_losses(
    tx: optax.GradientTransformation | optax.MultiSteps,
    forget_loss: StepLossFn,
    retain_loss: StepLossFn,
    **extra_args: Any,
) -> optax.GradientTransformationExtraArgs:
    """The same transform with its losses bound, which needs no gradients.

    Around `ofmu`, within what passes no arguments on:
    `flax.training.train_state.TrainState.apply_gradients`, `optax.lookahead`,
    `optax.contrib.sam`. Around wrappers of `ofmu` that do: gradients may then be None,
    and ``full_params`` are the parameters that it is called with, if not given.
    Transforms have no memory of their own, so that this may be made anew in each step,
    around the losses of its batches; states stay valid.

    Raises:
      TypeError: ``tx`` passes no arguments on; this belongs inside it.

    >>> import jax.numpy as jnp
    >>> tx, theta = ofmu(0.1, 0.1, 1, beta=0.0, rho=0.0), jnp.ones(1)
    >>> forget, retain = lambda p, i: 3 * p.sum(), lambda p, i: 0.5 * (p**2).sum()
    >>> bound = with_losses(tx, forget, retain)
    >>> print(bound.update(None, tx.init(theta), theta)[0].round(4))
    [0.17]
    """
    plain = isinstance(tx, optax.GradientTransformation)
    if plain and not isinstance(tx, optax.GradientTransformationExtraArgs):
        raise TypeError(
            "with_losses binds arguments of tx.update, and this tx takes none, as that "
            "of optax.lookahead: put it inside, optax.lookahead(with_losses(tx, ...), "
            "...)."
        )

    def update_fn(
        updates: Params, state: Any, params: Params | None = None, **more: Any
    ) -> tuple[Any, Any]:
        if updates is None and params is not None:
            updates = optax.tree.zeros_like(params)
        losses = {"forget_loss": forget_loss, "retain_loss": retain_loss}
        given = {"full_params": params, **losses, **extra_args, **more}
        return tx.update(updates, state, params, **given)

    return optax.GradientTransformationExtraArgs(tx.init, update_fn)


def fill_masked(params: Params, full: Params) -> Params:
    """Puts the leaves of ``full`` where ``params`` holds an `optax.MaskedNode`.

    What `ofmu` does with ``full_params`` before it calls a loss.
    """
    return _trees.complete(params, full, _is_hidden)


# --- what wrappers make of parameters and optimizers -------------------------------


class _Hidden:
    """A leaf that no operation takes, where a wrapper hides a parameter."""


def _is_hidden(x: Any) -> bool:
    return isinstance(x, (optax.MaskedNode, _Hidden))


def _of_visible(name: str, loss: Callable, full: Params | None) -> Callable:
    """The loss as a function of the parameters as a wrapper hands them on."""

    def of_visible(params, step):
        if full is not None:
            if _is_vector(params) and not _is_vector(full):
                params = _trees.unflattened(params, full)
            params = fill_masked(params, full)
        what, errors = _altered(params)
        hide = lambda x: _Hidden() if _is_hidden(x) else x
        try:
            return loss(jax.tree.map(hide, params, is_leaf=_is_hidden), step)
        except errors as error:
            raise ValueError(
                f"{name} failed where {what}: call tx.update(..., full_params=params)."
            ) from error

    return of_visible


def _altered(params: Params) -> tuple[str, tuple[type[Exception], ...]]:
    """What a wrapper has done to parameters, in words, and errors that come of it."""
    if any(map(_is_hidden, jax.tree.leaves(params, is_leaf=_is_hidden))):
        return "optax.masked or optax.partition hides parameters from it", (Exception,)
    if _is_vector(params):
        what = "the parameters are one vector, as optax.flatten around ofmu makes them"
        return what, (TypeError, AttributeError, KeyError)
    return "", ()


def _is_vector(x: Any) -> bool:
    return isinstance(x, jax.Array) and x.ndim == 1
