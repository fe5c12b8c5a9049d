"""Methods that need the model before unlearning, or anything fixed, at every step."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax.methods.base import Method, Params

FORWARD_COST = 1 / 3  # of a forward pass in gradients: the backward costs twice as much


class FrozenState(NamedTuple):
    """State of a method `with_frozen`."""

    inner: optax.OptState  # of the method itself
    frozen: Any  # what stays as it was at init; sharded as the parameters are


def copy_params(params: Params) -> Params:
    """A copy that outlives the donation of the original."""
    return jax.tree.map(jnp.copy, params)


def with_frozen(
    build: Callable[[Any], Method],
    *,
    forward_passes: float,
    freeze: Callable[[Params], Any] = copy_params,
) -> Method:
    """A method whose losses may use something frozen, carried in its state.

    A loss that closes over arrays makes them constants of the compiled step: they are
    copied into the program, and replicated. Here they are arguments of the step like
    the rest of the state, so they are sharded, donated and checkpointed with it (a
    model more in memory, and in each checkpoint of the optimizer's state).

    Args:
      build: from the frozen value to the method; called within every update. It must
        not look into the value while building, only its losses may.
      forward_passes: of one batch through the frozen model, in one update; each is
        counted as a third of a gradient.
      freeze: from the parameters at init to the value, by default a copy of them.
    """
    outline = build(None)

    def init(params: Params) -> FrozenState:
        return FrozenState(outline.init(params), freeze(params))

    def update(params, state, batches):
        method = build(state.frozen)
        params, inner, metrics = method.update(params, state.inner, batches)
        return params, FrozenState(inner, state.frozen), metrics

    cost = outline.gradient_evaluations + forward_passes * FORWARD_COST
    return outline._replace(init=init, update=update, gradient_evaluations=_whole(cost))


def _whole(cost: float) -> float:
    """The cost, without the error of adding thirds to an integer."""
    return round(cost) if math.isclose(cost, round(cost)) else cost
