"""What the numbers of a configuration may be, said beside each field and checked alike.

@dataclasses.dataclass(frozen=True)
class Train:
    epochs: Count = 20
    learning_rate: Positive = 1e-3
    clip: Positive | None = None
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

Said = TypeVar("Said")


@dataclasses.dataclass(frozen=True)
class Bound:
    """Of a number: at least ``low`` (or above it), at most ``high`` (or below it)."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # ``low`` itself is out
    below: bool = False  # so is ``high``

    def problem(self, value: float) -> str | None:
        """What a value must be, if it is not.

        >>> Bound(0, 1).problem(2), Bound(0, above=True).problem(0), Bound(1).problem(1)
        ('between 0 and 1', 'above 0', None)
        >>> Bound(0, 1, above=True).problem(0), Bound(1, 1e6).problem(0)
        ('above 0 and at most 1', 'between 1 and 1,000,000')
        """
        low = value > self.low if self.above else value >= self.low
        if low and (value < self.high if self.below else value <= self.high):
            return None
        if self.high < math.inf and not (self.above or self.below):
            return f"between {_shown(self.low)} and {_shown(self.high)}"
        least = f"{'above' if self.above else 'at least'} {_shown(self.low)}"
        most = f" and {'below' if self.below else 'at most'} {_shown(self.high)}"
        return least + most * (self.high < math.inf)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Of a weight: with 0 its term and the term's cost are not there."""


Count = Annotated[int, Bound(1)]
NotNegativeInt = Annotated[int, Bound(0)]
Positive = Annotated[float, Bound(0, above=True)]
NotNegative = Annotated[float, Bound(0)]
Term = Annotated[float, Bound(0), LeftOut()]  # the weight of one
Share = Annotated[float, Bound(0, 1)]
BelowOne = Annotated[float, Bound(0, 1, below=True)]


def problems(config: Any) -> Iterator[tuple[str, Any, str]]:
    """(path of the field, its value, what it must be) of all that is wrong.

    Fields that are dataclasses are looked into, and tuples, each entry of which has
    the bound; None is within every bound, and no float may be NaN or infinite.

    >>> @dataclasses.dataclass
    ... class Step:
    ...     rate: Positive = 0.1
    >>> list(problems(Step(-1.0))), list(problems(Step(math.nan)))
    ([('rate', -1.0, 'above 0')], [('rate', nan, 'a finite number')])
    >>> @dataclasses.dataclass
    ... class Grid:
    ...     rates: tuple[Positive, ...] = (0.1, 0.0)
    >>> list(problems(Grid()))
    [('rates', 0.0, 'above 0')]
    """
    bounds = said(type(config), Bound)
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from ((f"{name}.{path}", at, it) for path, at, it in problems(value))
            continue
        for entry in value if isinstance(value, tuple) else (value,):
            if isinstance(entry, float) and not math.isfinite(entry):
                yield name, entry, "a finite number"
            elif name in bounds and entry is not None:
                if problem := bounds[name].problem(entry):
                    yield name, entry, problem


@functools.cache
def said(kind: type, what: type[Said]) -> dict[str, Said]:
    """What is said beside each field that has one, such as a `Bound`; optional fields
    included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {}
    for name, hint in hints.items():
        for part in (hint, *typing.get_args(hint)):
            for extra in getattr(part, "__metadata__", ()):
                if isinstance(extra, what):
                    found[name] = extra
    return found


def check_word_or_number(
    option: str, choice: str, words: Sequence[str], unit: str
) -> None:
    """Raises ValueError for what is neither one of the words nor a finite number."""
    try:
        known = choice in words or math.isfinite(float(choice))
    except ValueError:
        known = False
    if not known:
        raise ValueError(
            f"{option} is {choice}; it must be {', '.join(words)} or a number of "
            f"{unit}."
        )
