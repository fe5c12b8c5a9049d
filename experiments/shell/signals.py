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
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from experiments.shell import program, streams

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
        self.tell: Callable[[str], None] | None = None  # only in a job
        self.agreed = False  # all processes of the job know what came
        self.cut = False  # work was ended in the middle
        self.falls = False  # a thread is ending the process
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


def in_job(
    largest: Callable[[int], int],
    speaks: bool,
    tell: Callable[[str], None] | None = None,
) -> None:
    """From here on this process stops only together with the others of its job.

    A signal is noted, and judged where all processes pass: `requested`, `stop` and
    `pause`, which all have to call equally often, and both ends of `deferred`.

    Args:
      largest: as `ofmu_jax.parallel.distributed.largest`.
      speaks: True in the one process that says how to go on.
      tell: as `ofmu_jax.parallel.failure.tell`.
    """
    _signals.largest, _signals.speaks, _signals.tell = largest, speaks, tell


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
        command = shlex.join([*program.words(module), *arguments])
        text = f"stopped by {stop}; what was done is in {folder}. To go on: {command}"
        if _signals.speaks:
            with contextlib.suppress(OSError):  # Ctrl-C has ended the reader as well
                print(text, file=sys.stderr, flush=True)
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


def cut_off() -> None:
    """Notes that work was ended in the middle: `leave` must not wait for it."""
    _signals.cut = True


def leave(main: Callable[[], int]) -> NoReturn:
    """Runs a command and ends the process with its status; Ctrl-C is 130.

    Work that a signal has ended in the middle may go on in threads that nobody can
    wait for or stop: jaxlib compiles in one, and Python's end takes the device from
    under it, which is a segmentation fault. In a job that end also waits for the other
    processes, where this one alone has failed. So then the process ends without it;
    what is to be kept was written and closed where the work ended.
    """
    streams.ready()
    try:
        status = main()
    except KeyboardInterrupt:
        cut_off()
        status = 128 + signal.SIGINT
    except BrokenPipeError:  # as of a program that SIGPIPE ends
        status = 128 + signal.SIGPIPE
    except Exception as error:
        hold()
        if _signals.tell is None:
            raise
        traceback.print_exc()
        failed(error)
        status = 1
    finally:
        streams.flush()
    if not _signals.cut:
        sys.exit(status)
    os._exit(status)


def pause() -> None:
    """A place in long work where all processes of a job pass: there it may end.

    Alone a signal ends it anywhere, and where signals are deferred it goes on.
    """
    if _signals.largest is not None and not _signals.deferring:
        stop()


def failed(error: BaseException) -> None:
    """In a job: the other processes, which may wait for this one, hear why it ends."""
    if _signals.tell is not None:
        _signals.tell(f"{type(error).__name__}: {' '.join(str(error).split())}")
        cut_off()


def falls(reason: str) -> None:
    """Says why this process of a job is about to end: another one has failed."""
    _signals.falls = True
    with contextlib.suppress(OSError):
        os.write(2, f"\nerror: {reason}\n".encode())


def hold() -> None:
    """Where this process is about to end, its own errors follow and are not told."""
    while _signals.falls:
        time.sleep(1)


def _received(number: int, _frame) -> None:
    if not _signals.agreed:
        _signals.came = number
    for each in NUMBERS:  # the next one ends the process, even in compiled code
        signal.signal(each, signal.SIG_DFL)
    if not _signals.deferring and _signals.largest is None:
        cut_off()
        raise Interrupted(number)
    name = signal.Signals(number).name
    wait = "saving after this update"
    if _signals.largest is not None:
        wait = "all processes stop together, after this update, batch or stage"
    text = f"\n{name}: {wait}; once more ends at once.\n"
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
