"""What every unlearning method is: a pure step over stacked minibatches."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any
Batches = Mapping[str, Any]  # {"forget": batch, "retain": batch}, leaves (S, B, …)
BatchLoss = Callable[[Params, Any], jax.Array]  # (parameters, one batch) -> scalar
Metrics = dict[str, jax.Array]  # scalars


class Method(NamedTuple):
    """An unlearning method.

    ``update(params, state, batches) -> (params, state, metrics)`` is pure; the leaves
    of ``batches`` have a leading axis of ``batches_per_update`` minibatches. A method
    made by `of_part` takes what stays fixed as a last argument of both functions.
    """

    init: Callable[..., optax.OptState]
    update: Callable[..., tuple[Params, optax.OptState, Metrics]]
    batches_per_update: int
    gradient_evaluations: float  # cost of one update; a gradient of one batch is 1
    parameter_updates: int = 1  # optimizer steps in one update


def minibatch(batches: Any, index: int | jax.Array) -> Any:
    """Minibatch ``index`` of stacked ones."""
    return jax.tree.map(lambda x: jnp.asarray(x)[index], batches)
