"""Chat templates, rendered within limits and with a clock that stands still.

A template is a program that came with a checkpoint: it may print today's date, draw
numbers, loop for ever or fill the memory. It runs in a process of its own
(`template_worker`), which is ended when it takes too long.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ofmu_jax.data.language.records import DataError

NOW = "2025-04-10T12:00:00"  # what `strftime_now` reads, so that prompts stay the same
SECONDS = 5.0  # of computing, for one question
CHARACTERS = 1_000_000  # of one text
MEMORY = 1 << 30  # bytes

_WORKER = pathlib.Path(__file__).with_name("template_worker.py")
_lock = threading.Lock()
_workers: dict[int, subprocess.Popen[str]] = {}  # by process: a fork has its own


class TemplateError(DataError):
    """A chat template that cannot be rendered; the message is the reason alone."""


def render(template: str, variables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts that a Jinja template makes of each set of variables.

    As ``apply_chat_template`` of transformers does, but for ``strftime_now``, which
    always prints `NOW`, and for random choices, which are always the same.

    >>> render("{{ strftime_now('%d %b %Y') }}: {{ x }}", [{"x": 1}, {"x": "é"}])
    ['10 Apr 2025: 1', '10 Apr 2025: é']

    Raises:
      TemplateError: a template that is broken, raises, or takes more than `SECONDS`,
        `MEMORY` or `CHARACTERS`.
    """
    request = {
        "template": template,
        "variables": list(variables),
        "now": NOW,
        "seconds": SECONDS,
        "characters": CHARACTERS,
    }
    with _lock:
        answer = _ask(json.dumps(request, default=str) + "\n")
    if "error" in answer:
        raise TemplateError(" ".join(answer["error"].split()))
    return answer["texts"]


def _ask(request: str) -> dict[str, Any]:
    worker = _workers.get(os.getpid())
    if worker is None or worker.poll() is not None:
        worker = _workers[os.getpid()] = _started()
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(request)
        worker.stdin.flush()
        line = worker.stdout.readline()
    except BrokenPipeError:
        line = ""
    except BaseException:  # interrupted: its answer would be taken for the next one's
        _end(worker)
        raise
    if line:
        return json.loads(line)
    _end(worker)
    status = worker.wait()
    if status == -signal.SIGPROF:
        return {"error": f"it does not end within {SECONDS:g} seconds"}
    return {"error": f"the process that rendered it ended with status {status}"}


def _started() -> subprocess.Popen[str]:
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-P", str(_WORKER), str(MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "0"},
    )


def _end(worker: subprocess.Popen[str]) -> None:
    """Takes a worker out of service; its last status is kept."""
    _workers.pop(os.getpid(), None)
    worker.kill()  # does nothing to one that has ended
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        try:
            assert pipe is not None
            pipe.close()
        except BrokenPipeError:  # what was not read
            pass


@atexit.register
def _end_own() -> None:
    if (worker := _workers.get(os.getpid())) is not None:
        _end(worker)
