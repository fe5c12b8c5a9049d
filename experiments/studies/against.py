"""PyTorch in a process beside this one, which runs one update whenever it is told to.

So both frameworks take turns and meet the same busy moments. A turn costs what two
lines through a pipe do, a tenth of a millisecond.
"""

import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from experiments.studies.shapes import Shape


class TorchError(ValueError):
    """PyTorch is not installed, or cannot run an update, in one line."""


@contextmanager
def torch_updates(
    shape: Shape, remats: Sequence[str] = ("none",), *, exact: bool = True
) -> Iterator[tuple[dict[str, Callable[[], None]], dict[str, str]]]:
    """What `torch_times.updates` can run, by name, and what it cannot, and why.

    Each has run once already, so that all is compiled.

    Raises:
      TorchError: it does not run here at all.
    """
    arguments = {"shape": dataclasses.asdict(shape), "remats": remats, "exact": exact}
    module = [sys.executable, "-m", "experiments.studies.torch_times"]
    said = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill up
    child = subprocess.Popen(
        [*module, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            said.seek(0)
            last = said.read().strip().splitlines()[-1:]
            raise TorchError(
                f"PyTorch does not run here ({' '.join(last)}): install the extra, "
                "pip install 'ofmu-jax[parity]', or leave it out."
            )
        calls: dict[str, Callable[[], None]] = {}
        failed: dict[str, str] = {}
        for name in json.loads(line):
            call = functools.partial(_turn, child, name)
            begun = time.perf_counter()
            try:
                call()
            except TorchError as error:
                failed[name] = str(error)
            else:
                calls[name] = call
            seconds = time.perf_counter() - begun
            print(f"{name}: first run {seconds:.1f} s", file=sys.stderr, flush=True)
        yield calls, failed
    finally:
        child.kill()
        child.communicate()
        said.close()


def _turn(child: subprocess.Popen, name: str) -> None:
    """Has the update run, and waits for it."""
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(f"{name}\n")
        child.stdin.flush()
        answer = child.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise TorchError(f"PyTorch's process ended with {child.wait()} in {name}.")
    if answer.strip():
        raise TorchError(answer.strip())
