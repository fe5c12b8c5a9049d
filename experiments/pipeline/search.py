"""Configurations to try, the same number for every method: first spread, then near.

The first are the configuration as it stands and points spread over the whole search
space; the others lie around the best so far. A space of several rates over decades is
too wide for a handful of points: NPO's best configuration on TOFU lay between them.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import qmc

from experiments.config.fields import value_of, with_values
from ofmu_jax.methods.base import Span

SPREAD = 6  # trials, at least, before the others gather around the best
REACH = 0.15  # of them in each direction, as a share of every range
Trial = Callable[[int, Any], dict[str, Any]]


def trials(
    config: Any, space: Mapping[str, Span], count: int, seed: int = 0
) -> list[Any]:
    """``count`` configurations: the given one, then a scrambled Sobol sequence.

    Args:
      config: the configuration as it stands; trial 0.
      space: field of the configuration -> what it is searched in.
      count: at least 1.
      seed: of the scrambling.
    """
    found = [config]
    for point in _points(len(space), count - 1, seed):
        pairs = zip(space.items(), point, strict=True)
        values = {field: span.at(float(x)) for (field, span), x in pairs}
        found.append(with_values(config, values))
    return found


def near(config: Any, space: Mapping[str, Span], point: np.ndarray) -> Any:
    """A configuration near another one.

    Args:
      point: a coordinate for each field, 0 … 1: from `REACH` below to as much above.
    """
    values = {}
    for (field, span), x in zip(space.items(), point, strict=True):
        here = span.fraction(value_of(config, field))
        there = here + REACH * (2 * float(x) - 1)
        values[field] = span.at(min(max(there, 0.0), 1.0))
    return with_values(config, values)


def best(
    config: Any, space: Mapping[str, Span], count: int, trial: Trial, seed: int = 0
) -> tuple[Any, list[dict[str, Any]]]:
    """The configuration of the lowest score, and the records of all trials.

    Args:
      config: the configuration as it stands; trial 0.
      space: field of the configuration -> what it is searched in.
      count: of trials. Half of them, or `SPREAD` if that is more, are those of
        `trials`; each of the others is near the best one before it.
      trial: from a number and a configuration to a record with its ``score`` (None:
        it broke); the record of the best is marked ``chosen``.
      seed: of the points.
    """
    if not space:  # every trial would be the same
        count = 1
    spread = min(count, max(SPREAD, math.ceil(count / 2)))
    configs = trials(config, space, spread, seed)
    records = [trial(k, found) for k, found in enumerate(configs)]
    for point in _points(len(space), count - spread, seed + 1):
        configs.append(near(configs[_lowest(records)], space, point))
        records.append(trial(len(records), configs[-1]))
    chosen = _lowest(records)
    return configs[chosen], [
        record | {"chosen": k == chosen} for k, record in enumerate(records)
    ]


def _lowest(records: list[dict[str, Any]]) -> int:
    """The number of the best trial; one that broke has no score."""
    scores = [math.inf if r["score"] is None else r["score"] for r in records]
    return scores.index(min(scores))


def _points(dimensions: int, count: int, seed: int) -> np.ndarray:
    """Points (count, dimensions) of a scrambled Sobol sequence, 0 … 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # any count, not a power of two
        return qmc.Sobol(dimensions, rng=seed).random(max(count, 1))[: max(count, 0)]
