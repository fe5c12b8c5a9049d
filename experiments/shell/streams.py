"""The process's own streams, closed, unread or of few characters as they may be."""

import contextlib
import os
import sys
from typing import Any


def ready() -> None:
    """Makes stdin, stdout and stderr such that writing to them ends nothing.

    A closed one goes to the null device: the next file opened would take its number,
    and get what libraries print. What a stream's encoding lacks becomes ``?``.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        elif stream.errors == "strict":
            stream.reconfigure(errors="replace")


def flush() -> None:
    """Writes out what is left; a stream that nobody reads is let go."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            unread(stream)


def unread(stream: Any) -> None:
    """What is written to the stream from here on goes to the null device."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
