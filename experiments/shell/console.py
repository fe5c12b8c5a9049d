"""What a run tells: results on stdout; notes, warnings, errors, progress on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from rich.console import Console
from rich.markup import escape

from experiments.shell import heartbeat, streams
from ofmu_jax.parallel.distributed import OtherProcessError


def _width(stream) -> int | None:
    # A log file has no width of its own; the tables need about a hundred columns.
    return None if stream is not None and stream.isatty() else 110


class _Console(Console):
    """A console whose reader may leave: what is being done goes on, with its status."""

    def on_broken_pipe(self) -> None:
        streams.unread(self.file)


console = _Console(width=_width(sys.stdout))
aside = _Console(width=_width(sys.stderr), stderr=True)


def result(text: str) -> None:
    """Prints a line of results, as it is."""
    console.print(escape(text), highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints what a user should know."""
    aside.print(f"[yellow]note:[/] {escape(text)}", highlight=False)


def warning(text: str) -> None:
    """Prints what was not as it should be, and goes on."""
    aside.print(f"[yellow]warning:[/] {escape(text)}", highlight=False)


def quiet() -> None:
    """From here on this process tells only errors that it alone has met."""
    console.quiet = aside.quiet = True


def error(problem: BaseException) -> None:
    """Prints an error as one line.

    A process whose console is quiet names itself on stderr, for what it alone has met:
    process 0, which knows nothing of it, cannot tell.
    """
    text = " ".join(str(problem).split()) or type(problem).__name__
    if console.quiet:
        if not isinstance(problem, OtherProcessError):
            index = jax.process_index()
            print(f"error in process {index}: {text}", file=sys.stderr, flush=True)
        return
    aside.print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[heartbeat.Stages]:
    """A bar for the run and one for its present stage; a line at a time in a log."""
    live = aside.is_terminal
    say = lambda line: aside.print(escape(line), highlight=False, soft_wrap=True)
    with heartbeat.Stages(console=aside, disable=not live) as stages:
        if live or aside.quiet:
            yield stages
        else:
            with heartbeat.beating(stages, say):
                yield stages
