"""SIGTERM and Ctrl-C: the run is saved first; a second signal ends it at once.

In a job of several processes a signal to any of them stops all, at the same place:
one that left alone would leave the others waiting for it.
"""

import contextlib
import os
import pathlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to stop; nothing that was done is lost."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def status(self) -> int:
        """Exit status: 0 for SIGTERM, which schedulers send, as nothing went wrong."""
        return 0 if self.number == signal.SIGTERM else 128 + self.number


class _Signals:
    """What came, and whether it has to wait."""

    def __init__(self) -> None:
        self.came: int | None = None
        self.deferring = 0
        self.largest: Callable[[int], int] | None = None  # only in a job
        self.agreed = False  # all processes of the job know what came
        self.speaks = True


_signals = _Signals()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Within it the two signals raise `Interrupted`; outside all is as before.

    In another thread than the main one, which gets no signals, it does nothing.
    Processes of a job that have agreed to stop keep the handlers: to some the
    scheduler's signal comes only when they are leaving, and must not kill them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _received) for number in NUMBERS}
    try:
        yield
    finally:
        if not _signals.agreed:
            for number, handler in before.items():
                signal.signal(number, handler)
        _signals.came, _signals.agreed = None, False


def in_job(largest: Callable[[int], int], speaks: bool) -> None:
    """From here on this process stops only together with the others of its job.

    A signal is noted, and judged where all processes pass: `requested` and `stop`,
    which all have to call equally often, and both ends of `deferred`.

    Args:
      largest: as `ofmu_jax.parallel.distributed.largest`.
      speaks: True in the one process that says how to go on.
    """
    _signals.largest, _signals.speaks = largest, speaks


def guarded(
    work: Callable[[], int],
    module: str,
    arguments: Sequence[str],
    folder: pathlib.Path,
) -> int:
    """A command's exit status; where a signal ends it, it says how to go on."""
    try:
        with handled():
            return work()
    except Interrupted as stop:
        command = shlex.join(["python", "-m", module, *arguments])
        text = f"stopped by {stop}; what was done is in {folder}. To go on: {command}"
        if _signals.speaks:
            print(text, file=sys.stderr)
        return stop.status


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within it a signal is only noted: look at `requested`; raised at its end."""
    if _signals.largest is not None:
        stop()
    _signals.deferring += 1
    try:
        yield
    finally:
        _signals.deferring -= 1
    stop()


def requested() -> bool:
    """True if a signal has come, to any process of the job."""
    if _signals.largest is not None and not _signals.agreed:
        # SIGTERM is the larger of the two. What comes meanwhile is for the next time.
        number = _signals.largest(_signals.came or 0)
        if not number:
            return False
        _signals.came, _signals.agreed = number, True
    return _signals.came is not None


def stop() -> None:
    """Raises `Interrupted` if a signal has come, to any process of the job."""
    if requested() and _signals.came is not None:
        raise Interrupted(_signals.came)


def _received(number: int, _frame) -> None:
    if not _signals.agreed:
        _signals.came = number
    for each in NUMBERS:  # the next one ends the process, even in compiled code
        signal.signal(each, signal.SIG_DFL)
    if not _signals.deferring and _signals.largest is None:
        raise Interrupted(number)
    name = signal.Signals(number).name
    wait = "saving after this update"
    if _signals.largest is not None:
        wait = "all processes stop together, after an update or before the next stage"
    text = f"\n{name}: {wait}; once more ends at once.\n"
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
