"""Signals and kill -9: what was done is kept, and the end is the same, bit for bit."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from resume_toys import fit

from experiments.pipeline import execute
from experiments.run import main
from experiments.shell import signals
from experiments.shell.compiled import Spent
from experiments.stages import saver as resuming
from experiments.stages import stage as stages

TESTS = pathlib.Path(__file__).resolve().parents[1]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def run_toy(folder, every=None, at=None, number=signal.SIGTERM):
    """The toy run as a stage; at an update a signal comes."""
    stage = stages.Stage(folder, "toy")
    if stage.done:
        return stage.result
    rows = []

    def on_update(done, metrics):
        rows.append(done)
        if done == at:
            send(number)

    with resuming.resumable(stage, every) as saver:
        result = fit(saver, on_update=on_update)
        if at == "end":
            send(number)
        params = [np.asarray(x).tobytes().hex() for x in result.params.values()]
        stage.finish({"params": params, "metrics": result.metrics, "rows": rows})
    return stage.result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_stage_goes_on(tmp_path, number):
    expected = run_toy(tmp_path / "whole")
    before = [signal.getsignal(each) for each in signals.NUMBERS]
    with pytest.raises(signals.Interrupted) as stop:
        with signals.handled():
            run_toy(tmp_path / "stage", at=5, number=number)
    assert stop.value.status == (0 if number == signal.SIGTERM else 130)
    assert [signal.getsignal(each) for each in signals.NUMBERS] == before
    assert not signals.requested()
    # The metrics of update 5 are read, and so the signal comes, after update 6.
    progress = stages.Stage(tmp_path / "stage", "toy").progress
    assert [path.name for path in progress.iterdir()] == ["000000006"]
    assert run_toy(tmp_path / "stage") == expected
    assert not progress.exists()


def test_without_checkpoints_a_signal_ends_the_stage_unsaved(tmp_path):
    with pytest.raises(signals.Interrupted), signals.handled():
        run_toy(tmp_path / "stage", every=0, at=5)
    assert not (tmp_path / "stage.progress").exists()


def test_a_signal_after_the_last_update_lets_the_stage_finish(tmp_path):
    expected = run_toy(tmp_path / "whole")
    with pytest.raises(signals.Interrupted), signals.handled():
        run_toy(tmp_path / "stage", at="end")
    assert stages.Stage(tmp_path / "stage", "toy").done
    assert run_toy(tmp_path / "stage") == expected


def test_other_settings_start_anew_and_take_no_snapshot_away(tmp_path, capsys):
    expected = run_toy(tmp_path / "whole")
    with pytest.raises(signals.Interrupted), signals.handled():
        run_toy(tmp_path / "stage", at=5)
    with pytest.raises(signals.Interrupted), signals.handled():
        stage = stages.Stage(tmp_path / "stage", "other")
        with resuming.resumable(stage, None) as saver:
            fit(saver, on_update=lambda done, _: send(signal.SIGTERM))
    assert "going on" not in capsys.readouterr().err
    assert run_toy(tmp_path / "stage") == expected
    assert "going on after update 6" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "stage.progress").exists()


def test_time_before_the_stop_counts_and_that_of_checks_does_not(tmp_path):
    stage = stages.Stage(tmp_path / "stage", "toy")
    with resuming.resumable(stage, 0) as saver:
        saver.take_notes({"seconds": 1000.0, "compiling": 300.0})
        saver.aside = lambda: Spent(100.0, 40.0)
        assert 900 <= saver.spent.seconds < 910
        assert saver.extra_notes()["seconds"] >= 900
        jax.jit(lambda x: x + 1)(0.0)
        assert 260 < saver.extra_notes()["compiling"] < 270
        stage.finish({})


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_the_command_says_how_to_go_on(tmp_path, monkeypatch, capsys, number, status):
    monkeypatch.setattr(execute, "execute", lambda run: send(number))
    arguments = ["demo", "--output-dir", str(tmp_path / "o u t"), "--seeds", "3"]
    assert main(arguments) == status
    output = capsys.readouterr().err
    assert f"stopped by {signal.Signals(number).name}" in output
    assert f"run demo --output-dir '{tmp_path}/o u t' --seeds 3" in output


def test_a_second_signal_ends_at_once():
    program = (
        "import time\nfrom experiments.shell import signals as interrupts\n"
        "with interrupts.handled(), interrupts.deferred():\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=TESTS.parent, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        process.stderr.readline()
        assert "saving after this update" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("kind", "number", "status"),
    [
        ("handled", signal.SIGTERM, 0),
        ("handled", signal.SIGINT, 130),
        ("bare", signal.SIGINT, 130),
    ],
)
def test_a_signal_while_jax_compiles_ends_with_the_status(kind, number, status):
    """A thread that compiles outlives the command; Python's own end crashes it."""
    command = [sys.executable, str(TESTS / "toys" / "compiling.py")]
    # Without the suite's flags, which make compiling fast: it has to last.
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "XLA_FLAGS": ""}
    done = subprocess.run(
        [*command, kind, str(int(number)), "out"],
        env=environment,
        # In the background of a script SIGINT is ignored, by children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    assert "was over before" not in done.stdout
    assert ("To go on: python -m toy" in done.stderr) == (kind == "handled")


def toy(folder, num_updates: int, pause: float) -> subprocess.Popen:
    """The toy run in a process of its own, which prints every update."""
    command = [sys.executable, str(TESTS / "toys" / "resume_toys.py")]
    command += [str(folder), str(num_updates), str(pause)]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(5, marks=pytest.mark.slow),
        pytest.param(12, marks=pytest.mark.long),
    ],
)
def test_killed_at_random(tmp_path, kills):
    num_updates, rng, killed, went_on = 800, random.Random(0), 0, set()
    goal = 0
    with toy(tmp_path / "whole", num_updates, 0) as process:
        process.communicate()
    while killed < kills:
        with toy(tmp_path / "killed", num_updates, 0.005) as process:
            goal += rng.randint(10, 60)  # a line for each update, also for old ones
            done = 0
            while done < goal:
                line = process.stdout.readline().strip()
                done = int(line) if line.isdigit() else done
            time.sleep(rng.uniform(0.0, 0.02))
            process.kill()
            killed += 1
        marks = (tmp_path / "killed.progress").glob("*/" + "?" * 9)
        went_on |= {path.name for path in marks}
        assert not (tmp_path / "killed.stage.json").exists(), "it ended before"
    with toy(tmp_path / "killed", num_updates, 0) as process:
        process.communicate()
        assert process.returncode == 0
    for name in ("result.npz", "record.json", "metrics.jsonl"):
        whole, found = (tmp_path / f / name for f in ("whole", "killed"))
        if name == "result.npz":
            with np.load(whole) as x, np.load(found) as y:
                assert {k: v.tobytes() for k, v in x.items()} == {
                    k: v.tobytes() for k, v in y.items()
                }
        else:
            assert whole.read_text() == found.read_text()
    assert len(went_on) > kills // 2  # it did go on in the middle
    assert not (tmp_path / "killed.progress").exists()


COMMAND = """demo --people 6 --forget-people 1 --seeds 0 --methods ofmu --no-export
--model-size.hidden-size 32 --model-size.intermediate-size 64
--model-size.num-layers 2 --model-size.num-heads 2 --model-size.num-kv-heads 1
--train.epochs 6 --train.batch-size 16 --budget.gradient-evaluations 360
--budget.batch-size 8 --budget.checks 3 --budget.forget-target 9
--evaluation.max-rows 2 --evaluation.max-new-tokens 2 --evaluation.bootstrap 5
--checkpoint-every 3""".split()


def command(folder) -> subprocess.Popen:
    arguments = [sys.executable, "-m", "experiments.run", *COMMAND]
    return subprocess.Popen(
        [*arguments, "--output-dir", str(folder)],
        cwd=TESTS.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: subprocess.Popen, stage: pathlib.Path) -> None:
    """Waits for the second snapshot of a stage, or a newer one than there was."""
    folder = stage.with_name(stage.name + ".progress")
    newest = lambda: max((int(p.name) for p in folder.glob("*/" + "?" * 9)), default=3)
    before = newest()
    while process.poll() is None:
        if newest() > before:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


@pytest.mark.long
def test_the_command_itself(tmp_path):
    """kill -9 in the target's training and in OFMU's, then SIGTERM, then the end."""
    with command(tmp_path / "whole") as process:
        output = process.communicate()[0]
        end = process.returncode
        assert end in (0, 3), output  # 3: so small a model does not reach its target
    folder = tmp_path / "killed"
    for name, number in (
        ("target", signal.SIGKILL),
        ("ofmu", signal.SIGKILL),
        ("ofmu", signal.SIGTERM),
    ):
        with command(folder) as process:
            wait_for(process, folder / name / "seed0" / "training")
            process.send_signal(number)
            output = process.communicate()[0]
            assert process.returncode == (0 if number == signal.SIGTERM else -number)
    assert "stopped by SIGTERM" in output and "To go on: python -m" in output
    assert re.search(r"going on after update \d", output.replace("\n", " "))
    with command(folder) as process:
        output = process.communicate()[0]
        assert process.returncode == end, output
    for name in ("target", "retrained", "ofmu"):
        whole, found = (tmp_path / f / name / "seed0" for f in ("whole", "killed"))
        marks = [
            json.loads((f / "training.stage.json").read_text()) for f in (whole, found)
        ]
        for mark in marks:
            for name in ("seconds", "compile_seconds"):
                mark["result"].pop(name)
        assert marks[0] == marks[1]  # the fingerprint, metrics, checks, …
        lines = [(f / "training/metrics.jsonl").read_text() for f in (whole, found)]
        assert lines[0] == lines[1]
        scores = [
            json.loads((f / "evaluation/evaluation.json").read_text())
            for f in (whole, found)
        ]
        assert scores[0] == scores[1]  # of the parameters, to the last bit
        assert not (found / "training.progress").exists()
