"""Whether there is time for one more: judged by what the others took."""

import time
from collections.abc import Callable, Mapping

Took = dict[str, dict[str, float]]  # method -> seed -> seconds


class Clock:
    """Counts from its making on, and remembers what every method took.

    The first seed of a method pays for its compiling, so a method that is new is
    expected to take what the dearest one did the first time, and another seed what the
    one before took.

    >>> clock = Clock(100, {"npo": {"0": 30, "1": 10}}, lambda: 0.0)
    >>> clock.expected("npo", 1), clock.expected("npo", 2), clock.expected("rmu", 0)
    (0.0, 10, 30)
    """

    def __init__(
        self,
        seconds: float,
        took: Mapping[str, Mapping[str, float]],
        now: Callable[[], float] = time.monotonic,
    ):
        self.now, self.end = now, now() + seconds
        self.took: Took = {name: dict(seeds) for name, seeds in took.items()}

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - self.now()

    def expected(self, name: str, seed: int) -> float:
        """Seconds that a method takes: none if it is done already."""
        known = self.took.get(name, {})
        if str(seed) in known:
            return 0.0
        if known:
            return list(known.values())[-1]
        return max((next(iter(x.values())) for x in self.took.values()), default=0.0)

    def fits(self, name: str, seed: int) -> bool:
        """Whether it would be ready in time; what is done already is."""
        done = str(seed) in self.took.get(name, {})
        return done or 0 < self.left >= self.expected(name, seed)

    def lap(self, name: str, seed: int, begun: float) -> None:
        """Notes what took from ``begun`` until now; what is known already stays."""
        self.took.setdefault(name, {}).setdefault(str(seed), self.now() - begun)
