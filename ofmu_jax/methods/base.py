"""What every unlearning method is: a pure step over stacked minibatches, and an entry.

The step is a `Method`; the entry that a registry has of it is a `Spec`: defaults, what
is searched, and how the step is made.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
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


@dataclasses.dataclass(frozen=True)
class Range:
    """What a hyper-parameter is searched in: an interval, on a log scale or not."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self} is empty, or its logarithm does not exist.")

    def at(self, fraction: float) -> float:
        """The value ``fraction`` of the way from low to high, 0 … 1.

        >>> Range(0.25, 4.0, log=True).at(0.5), Range(1.0, 2.0).at(0.5)
        (1.0, 1.5)
        """
        if self.log:
            return self.low * (self.high / self.low) ** fraction
        return self.low + (self.high - self.low) * fraction

    def fraction(self, value: float) -> float:
        """How far on the way from low to high a value is: the inverse of `at`.

        Values outside count as the nearer end.

        >>> Range(0.25, 4.0, log=True).fraction(1.0), Range(1.0, 2.0).fraction(9.0)
        (0.5, 1.0)
        """
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class Among:
    """What a hyper-parameter is searched among: a few values in an order."""

    values: tuple[Any, ...]

    def at(self, fraction: float) -> Any:
        """The value ``fraction`` of the way from the first to the last, 0 … 1.

        >>> [Among((1, 2, 4)).at(x) for x in (0.0, 0.3, 0.4, 1.0)]
        [1, 1, 2, 4]
        """
        return self.values[min(int(fraction * len(self.values)), len(self.values) - 1)]

    def fraction(self, value: Any) -> float:
        """The middle of what `at` makes this value of; of others that of the nearest.

        >>> Among((1, 3)).fraction(3), Among((1, 3)).fraction(9)
        (0.75, 0.75)
        """
        apart = [0 if v == value else abs(v - value) for v in self.values]
        return (apart.index(min(apart)) + 0.5) / len(self.values)


Span = Range | Among


@dataclasses.dataclass(frozen=True)
class Alternatives:
    """Where alternative answers come from: the model before unlearning."""

    how: str  # "prompted": asked for one; "sampled": a draw unlike the answer
    temperature: float
    draws: int  # of each answer, of which the least like the right one is taken


@dataclasses.dataclass(frozen=True)
class Carries:
    """What the forget batches of a method hold beside tokens and labels."""

    reference_nll: bool = False
    alternative: bool = False  # the rows with another answer, and its reference NLL
    alternatives: Alternatives | None = None  # what that is; None: a refusal
    target_nll: float | None = None  # in multiples of the forget target; None: none


@dataclasses.dataclass(frozen=True)
class Spec:
    """A method's entry in the registry of its domain.

    Texts that ``unfit`` and ``cautions`` give name the options of the command line.
    """

    title: str
    source: str  # arXiv number of the paper
    config: Any  # every hyper-parameter, rates included, at its default
    build: Callable[[Any, Any], Any]  # (config, setting) -> Method, of images: Plan
    search: Mapping[str, Span]  # field of the config ("loss.beta") -> where it may lie
    carries: Callable[[Any], Carries] = lambda config: Carries()
    needs_hidden_fn: bool = False
    paper: Callable[[Any], Any] | None = None  # config -> its paper's literal setting
    # config -> whether a step differentiates a gradient, so that attention has to be
    # computed by what can be differentiated twice.
    second_derivatives: Callable[[Any], bool] = lambda config: False
    # Field that says how a derivative is taken -> what can; empty if it has no effect.
    derivatives: Callable[[Any], Mapping[str, tuple[str, ...]]] = lambda config: {}
    # (config, dtype) -> why it cannot work; (…, given model or None) -> what to know.
    unfit: Callable[[Any, str], Iterable[str]] = lambda config, dtype: ()
    cautions: Callable[[Any, str, str | None], Iterable[str]] = lambda *_: ()


def spec_of(specs: Mapping[str, Spec], name: str) -> Spec:
    """The entry of that name.

    Raises:
      ValueError: if there is none; the message has the nearest name and all others.
    """
    if name in specs:
        return specs[name]
    near = difflib.get_close_matches(name, specs, n=1)
    raise ValueError(
        f"method {name!r} is unknown{f' (did you mean {near[0]}?)' if near else ''}; "
        f"choose one of {', '.join(specs)}."
    )
