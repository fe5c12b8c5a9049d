"""Progress of a run: a bar for the whole and one for the stage that it is at.

Where there is no terminal it is a line at least every half minute. That comes from a
thread of its own, so that it comes while a step is compiled or a model is evaluated as
well.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from experiments.shell import compiled
from experiments.shell.ahead import Course, Present

EVERY = 30.0  # seconds
COMPILES = 0.5  # seconds that a program takes at least before it is said


class Stages(Progress):
    """Progress of stages, which are counted where a run says how many it has."""

    def __init__(self, *, compiling: Callable[[], float] | None = None, **options: Any):
        columns = (TextColumn("{task.description}"), BarColumn(20), Told(self))
        super().__init__(*columns, **options)
        self.compiling = compiling or compiled.compiling
        self.course = Course()
        self.part = ""  # of the run that it is at, such as: request 2 of 3
        self.begun: Callable[[str], None] | None = None
        self._whole: TaskID | None = None
        self._reached = self._kind = ""  # of what was reached last, and is being done
        self._present: TaskID | None = None

    def plan(self, kinds: Mapping[str, int]) -> None:
        """Says how many stages of each kind are to come, those already done as well."""
        self.course.planned.update(kinds)
        if self._whole is None:
            self._whole = super().add_task("run")
        self.update(self._whole, total=self.planned)

    @property
    def planned(self) -> int:
        """How many stages the run has, so far as it said."""
        return self.course.planned.total()

    def reach(self, stage: Hashable, kind: str = "") -> None:
        """Counts a stage once, whether it is done now or was done before."""
        self._over()
        self.course.reached.setdefault(stage, kind)
        self._reached = kind
        if self._whole is not None:
            self.update(self._whole, completed=self.number - 1)

    @property
    def number(self) -> int:
        """Of the stage that the run is at."""
        return len(self.course.reached)

    @property
    def present(self) -> Task | None:
        """What is being done, if something is."""
        return next((t for t in self.tasks if t.id == self._present), None)

    def left(self) -> float | None:
        """Seconds until the run is done, if they can be told."""
        return self.course.left(self._now()) if self.planned else None

    def add_task(self, description: str, *args: Any, **fields: Any) -> TaskID:
        """Begins what takes its time, in place of what was done before it."""
        self._over()
        self._kind, self._reached = self._reached, ""
        self._present = super().add_task(description, *args, **fields)
        if self.begun is not None:
            self.begun(line(self))
        return self._present

    def _over(self) -> None:
        """What was being done makes room, and tells how long it took."""
        if (now := self._now()) is not None and now.kind:
            self.course.finished(now)
        if self._present is not None and self.present is not None:
            self.remove_task(self._present)
        self._present = None

    def _now(self) -> Present | None:
        task = self.present
        if task is None:
            return None
        share = task.completed / task.total if task.total else None
        return Present(self._kind, task.elapsed or 0.0, share)

    def told(self, task: Task) -> str:
        """What is said behind the bar of a task."""
        if task.id != self._whole:
            return ", ".join(_task(task, self.compiling()))
        over = self.present is None and self.number >= self.planned
        place = "finishing" if over else f"stage {self.number} of {self.planned}"
        left = self.left()
        parts = [
            *filter(None, [place, self.part]),
            f"{clock(task.elapsed or 0.0)} so far",
        ]
        return ", ".join([*parts, *([f"{clock(left)} left"] if left else [])])


class Told(ProgressColumn):
    """The words behind a bar: how far, how long, and what is going on."""

    def __init__(self, stages: Stages):
        self.stages = stages
        super().__init__()

    def render(self, task: Task) -> Text:
        return Text(self.stages.told(task))


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
    >>> stages.plan({"unlearn": 9}); stages.reach("npo/seed0/training", "unlearn")
    >>> task = stages.add_task("npo, seed 0", total=None, note="")
    >>> line(stages)[9:]
    'stage 1 of 9: npo, seed 0, 0:00 so far'
    """
    place = f"stage {stages.number}" if stages.number else "beginning"
    if stages.number and stages.planned:
        place += f" of {stages.planned}"
    place += f", {stages.part}" if stages.part else ""
    task = stages.present
    parts = [] if task is None else [task.description, *_task(task, stages.compiling())]
    if (left := stages.left()) is not None:
        parts.append(f"{clock(left)} left of the run")
    told = [place, ", ".join(parts)] if parts else [place]
    return f"{time.strftime('%H:%M:%S')} {': '.join(told)}"


def _task(task: Task, compiling: float) -> list[str]:
    parts = []
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
    if compiling >= COMPILES:
        parts.append(f"compiling for {clock(compiling)}")
    return parts


def clock(seconds: float) -> str:
    """Minutes and seconds, hours if there are any.

    >>> clock(75), clock(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
