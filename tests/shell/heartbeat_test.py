"""Progress in a log: which stage, how far, how long; also while nothing comes back."""

import io
import threading
import time

from rich.console import Console

from experiments.shell import console, heartbeat


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def stages(clock):
    found = heartbeat.Stages(get_time=clock, disable=True, compiling=lambda: 0.0)
    found.plan({"train": 1, "evaluate": 2, "unlearn": 3})
    return found


def test_a_line_says_stage_loss_and_the_time_left():
    clock = Clock()
    shown = stages(clock)
    shown.reach("target/seed0/training", "train")
    bar = shown.add_task("target, seed 0", total=100, note="")
    assert heartbeat.line(shown)[9:] == (
        "stage 1 of 6: target, seed 0, 0 of 100, 0:00 so far"
    )
    for done in range(1, 21):
        clock.now += 2
        shown.update(bar, completed=done, note="retain_loss 0.250")
    # 80 are left, at 2 seconds each; and 5 stages, which take 200 seconds as this one.
    assert heartbeat.line(shown)[9:] == (
        "stage 1 of 6: target, seed 0, 20 of 100, retain_loss 0.250, 2:40 left, "
        "19:20 left of the run"
    )
    shown.update(bar, completed=100, note="")
    assert heartbeat.line(shown)[9:] == (
        "stage 1 of 6: target, seed 0, 100 of 100, finishing, 3:20 left of the run"
    )
    shown.reach("target/seed0/training", "train")  # once
    shown.reach("target/seed0/evaluation", "evaluate")
    shown.add_task("evaluate target, seed 0", total=None, note="")
    clock.now += 75
    assert heartbeat.line(shown)[9:] == (
        "stage 2 of 6: evaluate target, seed 0, 1:15 so far, 2:40 left of the run"
    )


def test_the_time_left_is_by_kind_and_what_was_found_done_tells_nothing():
    clock = Clock()
    shown = stages(clock)
    shown.reach("earlier", "unlearn")  # done before: no task
    assert shown.left() is None
    for stage, kind, seconds in (("a", "train", 100), ("b", "evaluate", 10)):
        shown.reach(stage, kind)
        shown.add_task(stage, total=None, note="")
        clock.now += seconds
    shown.reach("c", "unlearn")
    shown.add_task("c", total=None, note="")
    # Two unlearnings, this one included, of unknown length: the mean of 100 and 10.
    assert shown.left() == 2 * 55 + 10
    clock.now += 20
    shown.reach("d", "evaluate")
    # One unlearning is left, of 20 s as the last, and nothing of this stage began.
    assert shown.left() == 20
    shown.add_task("report", total=None, note="")
    assert heartbeat.line(shown)[9:].startswith("stage 5 of 6: report, 0:00 so far")


def test_the_bars_of_the_run_and_of_its_stage():
    clock, compiling = Clock(), [0.0]
    shown = heartbeat.Stages(
        get_time=clock, disable=True, compiling=lambda: compiling[0]
    )
    shown.plan({"train": 1, "unlearn": 1})
    shown.reach("a", "train")
    first = shown.add_task("target, seed 0", total=4, note="")
    clock.now, compiling[0] = 30.0, 12.0
    whole, present = shown.tasks
    assert shown.told(whole) == "stage 1 of 2, 0:30 so far"
    assert shown.told(present) == "0 of 4, 0:30 so far, compiling for 0:12"
    compiling[0] = 0.1  # too short to be said
    shown.update(first, completed=2)
    assert shown.told(whole) == "stage 1 of 2, 0:30 so far, 1:30 left"
    shown.reach("b", "unlearn")
    shown.add_task("npo, seed 0", total=None, note="")
    assert [task.description for task in shown.tasks] == ["run", "npo, seed 0"]
    assert (shown.tasks[0].completed, shown.tasks[0].total) == (1, 2)


def test_the_part_of_a_run_of_several():
    clock = Clock()
    shown = stages(clock)
    shown.part = "request 2 of 3"
    shown.reach("a", "train")
    shown.add_task("npo, seed 0", total=4, note="")
    assert shown.told(shown.tasks[0]) == "stage 1 of 6, request 2 of 3, 0:00 so far"
    told = "stage 1 of 6, request 2 of 3: npo, seed 0, 0 of 4, 0:00 so far"
    assert heartbeat.line(shown)[9:] == told


def test_before_the_first_stage_and_where_nobody_counts():
    shown = heartbeat.Stages(disable=True)
    assert heartbeat.line(shown)[9:] == "beginning"
    shown.reach("a", "train")
    shown.add_task("compile", total=None, note="")
    assert heartbeat.line(shown)[9:] == "stage 1: compile, 0:00 so far"


def test_lines_come_while_the_main_thread_is_busy_and_end_with_it():
    said, shown = [], stages(time.monotonic)
    with heartbeat.beating(shown, said.append, every=0.01):
        shown.reach("a", "evaluate")
        shown.add_task("evaluate", total=None, note="")
        time.sleep(0.2)  # as an evaluation that says nothing
    count = len(said)
    assert count > 5 and all("stage 1 of 6: evaluate" in line for line in said[1:])
    time.sleep(0.05)
    assert len(said) == count
    assert not [t for t in threading.enumerate() if t.name == "heartbeat"]


def test_every_half_minute_where_there_is_no_terminal(monkeypatch):
    assert heartbeat.EVERY <= 30
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    log = io.StringIO()
    monkeypatch.setattr(console, "aside", Console(file=log, width=110))
    with console.progress() as shown:
        shown.add_task("evaluate [x]", total=None, note="")
        time.sleep(0.1)
    lines = log.getvalue().splitlines()
    assert len(lines) > 3 and all("evaluate [x], 0:00 so far" in x for x in lines[1:])


def test_on_a_terminal_there_are_bars_and_no_lines(monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    log = io.StringIO()
    terminal = Console(file=log, width=110, force_terminal=True)
    monkeypatch.setattr(console, "aside", terminal)
    with console.progress() as shown:
        shown.add_task("evaluate", total=None, note="")
        time.sleep(0.1)
    assert "stage" not in log.getvalue() and "evaluate" in log.getvalue()
