"""Schedules of optax whose numbers may be traced: those of optax compare theirs."""

from typing import Any

import jax.numpy as jnp
import optax


def exponential(start: Any, factor: Any) -> optax.Schedule:
    """``start`` · ``factor``^k: optax's exponential_decay.

    >>> print(exponential(2.0, 0.5)(2))
    0.5
    """
    return lambda k: start * jnp.power(factor, k / 1)


def warmup_cosine(peak: Any, warmup: Any, updates: Any) -> optax.Schedule:
    """From 0 to the peak in a line, then to 0 at ``updates`` along half a cosine.

    As optax's warmup_cosine_decay_schedule; 0 < ``warmup`` < ``updates``.

    >>> schedule = warmup_cosine(1.0, 2, 4)
    >>> [round(float(schedule(k)), 6) for k in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def schedule(k):
        rising = peak - peak * (1 - jnp.clip(k, 0, warmup) / warmup)
        since = jnp.minimum(k - warmup, updates - warmup)
        falling = peak * (0.5 * (1 + jnp.cos(jnp.pi * since / (updates - warmup))))
        return jnp.where(k < warmup, rising, falling)

    return schedule


def warmup_linear(peak: Any, warmup: Any, updates: Any) -> optax.Schedule:
    """From 0 to the peak in a line, then in a line to 0 at ``updates``.

    As transformers' linear schedule; ``warmup`` < ``updates``, which may be infinite.

    >>> schedule = warmup_linear(1.0, 2, 4)
    >>> [round(float(schedule(k)), 6) for k in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    >>> print(warmup_linear(1.0, 0, jnp.inf)(9))
    1.0
    """

    def schedule(k):
        rising = k / jnp.maximum(warmup, 1)
        falling = jnp.maximum((updates - k) / (updates - warmup), 0)
        falling = jnp.where(jnp.isinf(updates), 1.0, falling)
        return peak * jnp.where(k < warmup, rising, falling)

    return schedule


def warmup(peak: Any, steps: int) -> float | optax.Schedule:
    """To the peak in a line within the first ``steps``; without any the peak itself.

    The first step is the peak / ``steps`` long, and not 0 as transformers' is.

    >>> [round(float(warmup(1.0, 4)(k)), 6) for k in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return (lambda k: peak * jnp.minimum((k + 1) / steps, 1)) if steps else peak


def stepwise(start: Any, *steps: Any, factor: float = 0.1) -> optax.Schedule:
    """``start``, times ``factor`` from each of the steps on.

    As optax's piecewise_constant_schedule.

    >>> [round(float(stepwise(1.0, 1, 3)(k)), 4) for k in range(4)]
    [1.0, 0.1, 0.1, 0.01]
    """

    def schedule(k):
        value = start
        for step in steps:
            value = jnp.where(k < step, value, factor * value)
        return value

    return schedule
