"""Configurations to try: points of a search space, the same number for every method."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from scipy.stats import qmc

from ofmu_jax.methods.configs import Range


def with_values(config: Any, values: Mapping[str, float]) -> Any:
    """The configuration with some fields replaced; ``loss.x`` is x of its loss."""
    inner = {k.removeprefix("loss."): v for k, v in values.items() if "." in k}
    outer: dict[str, Any] = {k: v for k, v in values.items() if "." not in k}
    if inner:
        outer["loss"] = dataclasses.replace(config.loss, **inner)
    return dataclasses.replace(config, **outer)


def trials(
    config: Any, space: Mapping[str, Range], count: int, seed: int = 0
) -> list[Any]:
    """``count`` configurations: the given one, then a scrambled Sobol sequence.

    Args:
      config: the configuration as it stands; trial 0.
      space: field of the configuration -> what it is searched in.
      count: at least 1.
      seed: of the scrambling.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # any count, not a power of two
        points = qmc.Sobol(len(space), rng=seed).random(max(count - 1, 1))
    found = [config]
    for point in points[: count - 1]:
        pairs = zip(space.items(), point, strict=True)
        values = {field: span.at(float(x)) for (field, span), x in pairs}
        found.append(with_values(config, values))
    return found


def best(
    configs: list[Any], trial: Callable[[int, Any], dict[str, Any]]
) -> tuple[Any, list[dict[str, Any]]]:
    """The configuration of the lowest score, and the records of all trials.

    Args:
      configs: as `trials` gives them.
      trial: from a number and a configuration to a record with its ``score``; the
        record of the best is marked ``chosen``.
    """
    records = [trial(k, config) | {"chosen": False} for k, config in enumerate(configs)]
    chosen = min(range(len(configs)), key=lambda k: records[k]["score"])
    records[chosen]["chosen"] = True
    return configs[chosen], records
