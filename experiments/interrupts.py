"""SIGTERM and Ctrl-C: the run is saved first; a second signal ends it at once."""

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


_signals = _Signals()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Within it the two signals raise `Interrupted`; outside all is as before.

    In another thread than the main one, which gets no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _received) for number in NUMBERS}
    try:
        yield
    finally:
        _signals.came = None
        for number, handler in before.items():
            signal.signal(number, handler)


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
        print(f"stopped by {stop}; what was done is in {folder}. To go on: {command}")
        return stop.status


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within it a signal is only noted: look at `requested`; raised at its end."""
    _signals.deferring += 1
    try:
        yield
    finally:
        _signals.deferring -= 1
    stop()


def requested() -> bool:
    """True if a signal has come."""
    return _signals.came is not None


def stop() -> None:
    """Raises `Interrupted` if a signal has come."""
    if _signals.came is not None:
        raise Interrupted(_signals.came)


def _received(number: int, _frame) -> None:
    _signals.came = number
    for each in NUMBERS:  # the next one ends the process, even in compiled code
        signal.signal(each, signal.SIG_DFL)
    if not _signals.deferring:
        raise Interrupted(number)
    name = signal.Signals(number).name
    text = f"\n{name}: saving after this update; once more ends at once.\n"
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
