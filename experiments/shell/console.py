"""What a run tells while it goes on: notes, warnings, errors, progress."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ofmu_jax.parallel.distributed import OtherProcessError

# A log file has no width of its own; the tables need about a hundred columns.
console = Console(width=None if sys.stdout.isatty() else 110)


def note(text: str) -> None:
    """Prints what a user should know."""
    console.print(f"[yellow]note:[/] {escape(text)}", highlight=False)


def warning(text: str) -> None:
    """Prints what was not as it should be, and goes on."""
    console.print(f"[yellow]warning:[/] {escape(text)}", highlight=False)


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
    console.print(
        f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True
    )


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        yield bar
