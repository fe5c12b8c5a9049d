"""Configurations to try, the same number for every method: first spread, then near.

The first are the configuration as it stands and points spread over the whole search
space; the others lie around the best so far. A space of several rates over decades is
too wide for a handful of points: NPO's best configuration on TOFU lay between them. In
a space of many fields a point that moves in all of them is rarely better than what it
started from, so that only a few move at once (as in DYCORS, Regis and Shoemaker 2013).
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import qmc

from experiments.config.fields import value_of, with_values
from ofmu_jax.methods.base import Among, Span

SPREAD = 6  # trials, at least, before the others gather around the best
REACH = 0.15  # of them in each direction, as a share of every range
MOVED = 3  # fields in which one of them differs from the best, at most
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


def near(
    config: Any, space: Mapping[str, Span], point: np.ndarray, turn: np.ndarray
) -> Any:
    """A configuration near another one.

    Args:
      point: a coordinate for each field, 0 … 1: from `REACH` below to as much above.
      turn: a number for each field; the `MOVED` lowest of them move.
    """
    values = {}
    moved = set(np.argsort(turn, kind="stable")[:MOVED])
    for k, ((field, span), x) in enumerate(zip(space.items(), point, strict=True)):
        if k not in moved:
            continue
        here = span.fraction(value_of(config, field))
        there = here + _reach(span) * (2 * float(x) - 1)
        values[field] = span.at(min(max(there, 0.0), 1.0))
    return with_values(config, values)


def _reach(span: Span) -> float:
    """Of a few values the neighbours are in reach, however few there are."""
    return max(REACH, 1 / len(span.values)) if isinstance(span, Among) else REACH


def best(
    config: Any, space: Mapping[str, Span], count: int, trial: Trial, seed: int = 0
) -> tuple[Any, list[dict[str, Any]]]:
    """The configuration of the lowest score, and the records of all trials.

    Args:
      config: the configuration as it stands; trial 0.
      space: field of the configuration -> what it is searched in.
      count: of trials. Half of them, or `SPREAD` if that is more, are those of
        `trials`; each of the others is `near` the best one before it.
      trial: from a number and a configuration to a record with its ``score`` (None:
        it broke); the record of the best is marked ``chosen``.
      seed: of the points.
    """
    if not space:  # every trial would be the same
        count = 1
    spread = min(count, max(SPREAD, math.ceil(count / 2)))
    configs = trials(config, space, spread, seed)
    records = [trial(k, found) for k, found in enumerate(configs)]
    points, turns = (_points(len(space), count - spread, seed + k) for k in (1, 2))
    for point, turn in zip(points, turns, strict=True):
        configs.append(near(configs[_lowest(records)], space, point, turn))
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
