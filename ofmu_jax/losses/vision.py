"""Losses of classifiers: functions of a network's logits, parameters and a batch.

``logits_fn(params, images)`` gives logits (B, C); a batch has ``images`` (B, H, W, C)
and ``labels`` (B,). Every loss is a mean over the batch in float32 or wider.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import chex
import jax
import jax.numpy as jnp

from ofmu_jax.losses.tokens import widen

Params = Any
Batch = Mapping[str, Any]
LogitsFn = Callable[[Params, jax.Array], jax.Array]

Ascended = Literal["cross_entropy", "target_cross_entropy", "mean_target_cross_entropy"]
ASCENDED = get_args(Ascended)


def example_nll(logits_BxC: jax.Array, labels_B: jax.Array) -> jax.Array:
    """−log softmax at the label of each image, shape (B,).

    >>> print(example_nll(jnp.zeros((1, 4)), jnp.array([2])).round(4))  # log 4
    [1.3863]
    """
    chex.assert_rank([logits_BxC, labels_B], [2, 1])
    log_p = jax.nn.log_softmax(widen(logits_BxC))
    return -jnp.take_along_axis(log_p, labels_B[:, None], -1)[:, 0]


def cross_entropy(
    logits_fn: LogitsFn, params: Params, batch: Batch, labels: str = "labels"
) -> jax.Array:
    """Mean NLL of the batch's labels, or of those under another key."""
    logits = logits_fn(params, batch["images"])
    return jnp.mean(example_nll(logits, batch[labels]))


def negated_cross_entropy(
    logits_fn: LogitsFn, params: Params, batch: Batch
) -> jax.Array:
    """−`cross_entropy`: what gradient ascent minimises on forget images."""
    return -cross_entropy(logits_fn, params, batch)


def target_cross_entropy(
    logits_fn: LogitsFn, params: Params, batch: Batch, *, target: float | jax.Array
) -> jax.Array:
    """−½ mean (target − NLL)²: cross-entropy up to a target, image by image.

    For a loss that is to be *maximised*: bounded by 0, which it reaches where every
    image has the NLL of ignorance, and turning round beyond (see the loss of the same
    name in `losses.language`).
    """
    nll = example_nll(logits_fn(params, batch["images"]), batch["labels"])
    return -jnp.mean((target - nll) ** 2) / 2


def mean_target_cross_entropy(
    logits_fn: LogitsFn, params: Params, batch: Batch, *, target: float | jax.Array
) -> jax.Array:
    """−½ (target − mean NLL)²: the same for the mean of the batch.

    A retrained classifier still recognises most images of classes that it kept, and
    fails on the hard ones: its NLL has the target as its mean, not everywhere. This
    loss leaves open which images make up the mean; its gradient is cross-entropy's,
    times the gap that is left.
    """
    return -((target - cross_entropy(logits_fn, params, batch)) ** 2) / 2


def distillation(
    logits_fn: LogitsFn,
    params: Params,
    batch: Batch,
    teacher_fn: Callable[[jax.Array], jax.Array],
    *,
    temperature: float | jax.Array = 4.0,
) -> jax.Array:
    """T² · mean KL(teacher ‖ student) of logits divided by T (Hinton et al. 2015).

    Args:
      teacher_fn: images -> logits (B, C); no gradient flows into it.
      temperature: T.
    """
    teacher = jax.lax.stop_gradient(teacher_fn(batch["images"]))
    log_q = jax.nn.log_softmax(widen(logits_fn(params, batch["images"])) / temperature)
    log_p = jax.nn.log_softmax(widen(teacher) / temperature)
    divergence = jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)
    return temperature**2 * jnp.mean(divergence)


def ascended_loss(
    name: Ascended, logits_fn: LogitsFn, *, target: float | jax.Array | None = None
) -> Callable[[Params, Batch], jax.Array]:
    """The loss ``name`` of ``(params, batch)`` with the sign of L_f in Φ of OFMU.

    Args:
      name: one of ``ASCENDED``; all but plain cross-entropy need ``target``, the NLL
        in nats to ascend to.
    """
    if name not in ASCENDED:
        raise ValueError(f"forget loss {name!r} is unknown; choose one of {ASCENDED}.")
    if name == "cross_entropy":
        return functools.partial(cross_entropy, logits_fn)
    mean = name == "mean_target_cross_entropy"
    loss = mean_target_cross_entropy if mean else target_cross_entropy
    if target is None:
        raise ValueError(
            f"{name} needs a target, the NLL to ascend to; set --forget-target to "
            "reference, heldout, chance or a number, or choose cross_entropy."
        )
    return functools.partial(loss, logits_fn, target=target)
