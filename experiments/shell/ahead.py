"""How long a run still takes, judged by the stages that it has done."""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple


class Present(NamedTuple):
    """The stage that a run is at."""

    kind: str  # as in the plan: train, unlearn, evaluate, …
    seconds: float  # since it began
    share: float | None = None  # of it that is done, 0 … 1; None: it does not tell


@dataclasses.dataclass
class Course:
    """Stages of a run by kind: how many there are, and how long those done took."""

    planned: Counter[str] = dataclasses.field(default_factory=Counter)
    reached: dict[Hashable, str] = dataclasses.field(default_factory=dict)
    took: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def to_come(self) -> dict[str, int]:
        """How many stages of each kind were not begun yet."""
        begun = Counter(list(self.reached.values()))  # another thread may be asking
        return {kind: max(n - begun[kind], 0) for kind, n in [*self.planned.items()]}

    def finished(self, stage: Present) -> None:
        """A stage had to be done, and is done; those found done tell nothing."""
        self.took.setdefault(stage.kind, []).append(stage.seconds)

    def left(self, present: Present | None) -> float | None:
        """Seconds that are left, of the present stage and of all to come.

        None where nothing was done yet that tells it.
        """
        return seconds_left(self.to_come, dict(self.took), present)


def seconds_left(
    to_come: Mapping[str, int],
    took: Mapping[str, Sequence[float]],
    present: Present | None = None,
) -> float | None:
    """Seconds for stages to come: each takes the mean of its kind so far, or of all
    stages so far if there was none of its kind.

    The present stage, once a tenth of it is done, counts as one of its kind.

    >>> seconds_left({"unlearn": 2, "export": 1}, {"unlearn": [60.0, 80.0]})
    210.0
    >>> seconds_left({"unlearn": 2}, {}, Present("train", 10.0, 0.25))
    110.0
    >>> seconds_left({"unlearn": 2}, {}, Present("train", 10.0)) is None
    True
    """
    known = {kind: list(seconds) for kind, seconds in took.items() if seconds}
    rest = 0.0
    if present is not None and present.share and present.share >= 0.1:
        whole = present.seconds / present.share
        known.setdefault(present.kind, []).append(whole)
        rest = whole - present.seconds
    every = [seconds for kind in known.values() for seconds in kind]
    if not every:
        return None
    mean = lambda kind: sum(known.get(kind, every)) / len(known.get(kind, every))
    if present is not None and not rest:
        rest = max(mean(present.kind) - present.seconds, 0.0)
    return rest + sum(count * mean(kind) for kind, count in to_come.items())
