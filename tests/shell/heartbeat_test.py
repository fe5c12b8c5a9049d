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
    found = heartbeat.Stages(get_time=clock, disable=True)
    found.plan(6)
    return found


def test_a_line_says_stage_loss_and_the_time_left():
    clock = Clock()
    shown = stages(clock)
    shown.reach("target/seed0/training")
    bar = shown.add_task("target, seed 0", total=100, note="")
    assert heartbeat.line(shown)[9:] == (
        "stage 1 of 6: target, seed 0, 0 of 100, 0:00 so far"
    )
    for done in range(1, 21):
        clock.now += 2
        shown.update(bar, completed=done, note="retain_loss 0.250")
    # 80 are left, at 2 seconds each.
    assert heartbeat.line(shown)[9:] == (
        "stage 1 of 6: target, seed 0, 20 of 100, retain_loss 0.250, 2:40 left"
    )
    shown.update(bar, completed=100, note="")
    assert heartbeat.line(shown)[9:] == (
        "stage 1 of 6: target, seed 0, 100 of 100, finishing"
    )
    shown.reach("target/seed0/training")  # once
    shown.reach("target/seed0/evaluation")
    shown.add_task("evaluate target, seed 0", total=None, note="")
    clock.now += 75
    assert heartbeat.line(shown)[9:] == (
        "stage 2 of 6: evaluate target, seed 0, 1:15 so far"
    )


def test_before_the_first_stage_and_where_nobody_counts():
    shown = heartbeat.Stages(disable=True)
    assert heartbeat.line(shown)[9:] == "beginning"
    shown.reach("a")
    shown.add_task("compile", total=None, note="")
    assert heartbeat.line(shown)[9:] == "stage 1: compile, 0:00 so far"


def test_lines_come_while_the_main_thread_is_busy_and_end_with_it():
    said, shown = [], stages(time.monotonic)
    with heartbeat.beating(shown, said.append, every=0.01):
        shown.reach("a")
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
    assert "so far" not in log.getvalue() and "evaluate" in log.getvalue()
