"""Progress where there is no terminal: a line at least every half minute.

It comes from a thread of its own, so that it comes while a step is compiled or a model
is evaluated as well.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import Progress, Task, TaskID

EVERY = 30.0  # seconds


class Stages(Progress):
    """Progress of stages, which are counted where a run says how many it has."""

    def __init__(self, *columns: Any, **options: Any):
        super().__init__(*columns, **options)
        self.planned = 0
        self._seen: dict[Any, None] = {}
        self.begun: Callable[[str], None] | None = None

    def plan(self, more: int) -> None:
        """Says how many stages are to come, those included that are done already."""
        self.planned += more

    def reach(self, stage: Any) -> None:
        """Counts a stage once, whether it is done now or was done before."""
        self._seen.setdefault(stage)

    @property
    def number(self) -> int:
        """Of the stage that the run is at."""
        return len(self._seen)

    def add_task(self, description: str, *args: Any, **fields: Any) -> TaskID:
        task = super().add_task(description, *args, **fields)
        if self.begun is not None:
            self.begun(line(self))
        return task


@contextmanager
def beating(
    stages: Stages, say: Callable[[str], None], every: float | None = None
) -> Iterator[None]:
    """Within it each stage says that it began, and how far it is.

    Args:
      say: takes a line.
      every: seconds; default: `EVERY`.
    """
    over = threading.Event()
    seconds = EVERY if every is None else every

    def beat() -> None:
        while not over.wait(seconds):
            say(line(stages))

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    stages.begun = say
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        stages.begun = None


def line(stages: Stages) -> str:
    """Which stage a run is at and how far it is, for a log.

    >>> stages = Stages(get_time=lambda: 75.0)
    >>> stages.plan(9); stages.reach("npo/seed0/training")
    >>> task = stages.add_task("npo, seed 0", total=None, note="")
    >>> line(stages)[9:]
    'stage 1 of 9: npo, seed 0, 0:00 so far'
    """
    place = f"stage {stages.number}" if stages.number else "beginning"
    if stages.number and stages.planned:
        place += f" of {stages.planned}"
    parts = [_task(task) for task in stages.tasks[-1:]]
    return f"{time.strftime('%H:%M:%S')} {': '.join([place, *parts])}"


def _task(task: Task) -> str:
    parts = [task.description]
    if task.total is not None:
        parts.append(f"{task.completed:g} of {task.total:g}")
    if note := task.fields.get("note"):
        parts.append(note)
    if task.finished:
        parts.append("finishing")
    elif task.time_remaining is not None:
        parts.append(f"{clock(task.time_remaining)} left")
    elif task.elapsed is not None:
        parts.append(f"{clock(task.elapsed)} so far")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Minutes and seconds, hours if there are any.

    >>> clock(75), clock(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
