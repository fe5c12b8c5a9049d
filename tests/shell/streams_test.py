"""Streams that are closed, left by their reader, or of few characters."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A command of three lines in the characters of a table; no method forgot.
LINES = """
import time
from experiments.shell import signals
def main():
    from experiments.shell import console
    for line in range(3):
        console.result(f"gap → 0.1 × {line}")
        if line == 0:
            time.sleep(0.3)  # the reader has left by then
    console.note("done")
    return 3
signals.leave(main)
"""


def started(shell: str, **environment: str) -> subprocess.CompletedProcess:
    """A shell's line in which "$@" is the command."""
    return subprocess.run(
        [
            *("bash", "-c", f"set -o pipefail; {shell}", "bash"),
            *(sys.executable, "-c", LINES),
        ],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("shell", "out", "err"),
    [
        ('"$@" | head -n 1', "gap → 0.1 × 0\n", "note: done\n"),
        ('"$@" >&-', "", "note: done\n"),
        ('"$@" 2>&-', "gap → 0.1 × 0\ngap → 0.1 × 1\ngap → 0.1 × 2\n", ""),
        ('"$@" <&- >&- 2>&-', "", ""),
    ],
)
def test_a_stream_without_a_reader_ends_nothing(shell, out, err):
    done = started(shell, PYTHONIOENCODING="utf-8")
    assert (done.stdout.decode(), done.stderr.decode()) == (out, err)
    assert done.returncode == 3


def test_what_an_encoding_lacks_is_a_question_mark():
    done = started('"$@"', PYTHONIOENCODING="ascii")
    assert done.stdout == b"gap ? 0.1 ? 0\ngap ? 0.1 ? 1\ngap ? 0.1 ? 2\n"
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("shell", "status"),
    [("| true", 141), ("2>&- >&-", 0)],
)
def test_help_without_a_reader_has_no_traceback(shell, status):
    command = (
        f"set -o pipefail; {sys.executable} -m experiments.run demo --help-all {shell}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert done.returncode == status
