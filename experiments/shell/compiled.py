"""What XLA has compiled is kept, and how long it took.

The next start need not compile it again.
"""

import functools
import hashlib
import os
import pathlib
import threading
import time
from typing import Any, NamedTuple

import jax

from experiments.shell.provenance import processor

MOST_BYTES = 1 << 30  # what was not used for longest goes first
# From Python to a program: tracing, lowering, and XLA (or reading what it kept).
STEPS = ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
EVENTS = tuple(f"/jax/core/compile/{step}_duration" for step in STEPS)


def keep() -> None:
    """Turns JAX's persistent cache on, in the user's cache folder.

    JAX's own settings hold: ``JAX_COMPILATION_CACHE_DIR`` is another folder,
    ``JAX_ENABLE_COMPILATION_CACHE=0`` none. Where the folder cannot be made, nothing
    is kept.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or a user without a home
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)


def folder() -> pathlib.Path:
    """Where it lies; apart for each kind of processor, as machines may share a home.

    Raises:
      RuntimeError: the user has no home.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    caches = pathlib.Path(given) if given else pathlib.Path.home() / ".cache"
    kind = hashlib.sha256(processor().encode()).hexdigest()[:8]
    return caches / "ofmu_jax" / f"xla-{kind}"


class Spent(NamedTuple):
    """Seconds, and how many of them went into compiling."""

    seconds: float
    compiling: float

    def plus(self, other: "Spent") -> "Spent":
        """Of both together."""
        return Spent(*(a + b for a, b in zip(self, other, strict=True)))

    def since(self, start: "Spent") -> "Spent":
        """From an earlier reading of the clock to this one."""
        return Spent(*(a - b for a, b in zip(self, start, strict=True)))


NOTHING = Spent(0.0, 0.0)


def clock() -> Spent:
    """Seconds since some moment, and how many of them this process compiled."""
    return Spent(time.perf_counter(), _stopwatch().seconds)


def compiling() -> float:
    """For how many seconds this process has been compiling by now; 0: it is not."""
    begun = _stopwatch().begun
    return time.perf_counter() - begun[0] if begun else 0.0


class Stopwatch:
    """Adds up spans of time that are told at their ends, one within another once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.begun: list[float] = []  # of spans that go on, the outermost first
        self._spans: list[tuple[float, float]] = []  # beginning and length
        self._lock = threading.Lock()

    def heard(self, end: float, seconds: float) -> None:
        """Adds a span; those that began after it did lie within it.

        >>> watch = Stopwatch()
        >>> for end, seconds in ((2.0, 1.0), (3.0, 0.5), (4.0, 3.5)):
        ...     watch.heard(end, seconds)
        >>> watch.seconds
        3.5
        """
        begun = end - seconds
        with self._lock:
            while self._spans and self._spans[-1][0] >= begun:
                self.seconds -= self._spans.pop()[1]
            self._spans.append((begun, seconds))
            self.seconds += seconds


@functools.cache
def _stopwatch() -> Stopwatch:
    """Of this process; it runs from the first time that it is asked for."""
    watch = Stopwatch()

    def begins(event: str, value: float | int, **_: Any) -> None:
        if event in EVENTS:
            watch.begun.append(time.perf_counter())

    def ends(event: str, duration_secs: float, **_: Any) -> None:
        if event in EVENTS:
            watch.heard(time.perf_counter(), duration_secs)
            del watch.begun[-1:]

    jax.monitoring.register_scalar_listener(begins)
    jax.monitoring.register_event_duration_secs_listener(ends)
    return watch
