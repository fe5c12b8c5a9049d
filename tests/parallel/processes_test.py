"""Several processes that are one job: they stop, fail and judge files together."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import pytest

from experiments.shell import console, signals
from experiments.stages import saver as resuming
from experiments.stages import stage
from ofmu_jax.parallel import distributed
from ofmu_jax.parallel.distributed import OtherProcessError
from ofmu_jax.training import checkpoint, loop, snapshots

ROOT = pathlib.Path(__file__).resolve().parents[2]


def as_process(monkeypatch, index: int, told: list[bytes] | None = None) -> list[bytes]:
    """This process as number ``index`` of two; returns what process 0 tells.

    Args:
      told: what another process hears from process 0, in turn.
    """
    said: list[bytes] = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: index)
    heard = iter(told or ())

    def broadcast(data: bytes) -> bytes:
        said.append(data if index == 0 else next(heard))
        return said[-1]

    monkeypatch.setattr(distributed, "_broadcast", broadcast)
    return said


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyboardInterrupt(), b"KeyboardInterrupt"),
        (signals.Interrupted(signal.SIGTERM), b"Interrupted: SIGTERM"),
        (SystemExit(3), b"SystemExit: 3"),
        (ValueError("no such file"), b"ValueError: no such file"),
    ],
)
def test_whatever_ends_process_0_is_told_to_the_others(monkeypatch, error, text):
    def fail():
        raise error

    with monkeypatch.context() as patch:
        said = as_process(patch, 0)
        with pytest.raises(type(error)) as raised:
            distributed.on_main(fail)
    assert raised.value is error
    assert text in said[0]
    as_process(monkeypatch, 1, said)
    with pytest.raises(OtherProcessError, match=text.decode()):
        distributed.on_main(fail)


def test_a_result_that_cannot_be_told_is_an_error_everywhere(monkeypatch):
    with monkeypatch.context() as patch:
        said = as_process(patch, 0)
        with pytest.raises(TypeError):
            distributed.on_main(object)
    as_process(monkeypatch, 1, said)
    with pytest.raises(OtherProcessError, match="TypeError"):
        distributed.on_main(object)


def test_alone_the_largest_is_ones_own():
    assert distributed.largest(15) == 15


@pytest.mark.parametrize("error", [OSError("disk 7 is gone"), OtherProcessError("x")])
def test_a_quiet_process_tells_only_its_own_errors(monkeypatch, capsys, error):
    as_process(monkeypatch, 1)
    monkeypatch.setattr(console.console, "quiet", True)
    console.error(error)
    out, err = capsys.readouterr()
    own = isinstance(error, OSError)
    assert (out, err) == ("", "error in process 1: disk 7 is gone\n" if own else "")


@pytest.fixture
def damaged(tmp_path):
    """Snapshots after updates 1 and 2; the second is damaged."""
    saver = snapshots.Snapshots(tmp_path / "progress", "a", every=1)
    for update in (1, 2):
        saver.save(snapshot(update))
    saver.close()
    (tmp_path / "progress" / "000000002" / checkpoint.SUMS).write_text("{}")
    return tmp_path / "progress"


def snapshot(update: int) -> loop.Snapshot:
    return loop.Snapshot(update, {"w": jnp.ones(3)}, (), None, {}, None)


def restored(folder, warned=None) -> loop.Snapshot | None:
    warn = [].append if warned is None else warned.append
    return snapshots.Snapshots(folder, "a", warn=warn).restore(snapshot(0))


def test_process_0_judges_snapshots_and_the_others_follow(monkeypatch, damaged):
    monkeypatch.setattr(snapshots, "largest", lambda value: value)
    warned: list[list[str]] = [[], []]
    with monkeypatch.context() as patch:
        said = as_process(patch, 0)
        # Orbax would ask the other process, too.
        patch.setattr(snapshots.Snapshots, "_read", lambda self, path, like: like)
        assert restored(damaged, warned[0]) is not None
    left = sorted(path.name for path in damaged.iterdir())
    assert left == ["000000001", "000000002.unused"]
    as_process(monkeypatch, 1, said)
    read: list[str] = []

    def followed(self, path, like):
        read.append(path.name)
        return like

    monkeypatch.setattr(snapshots.Snapshots, "_read", followed)
    assert restored(damaged, warned[1]) is not None
    assert read == ["000000001"]
    assert warned[0] == warned[1]
    assert "000000002 is damaged" in warned[0][0] and len(warned[0]) == 1
    assert sorted(path.name for path in damaged.iterdir()) == left


def test_of_another_run_is_so_for_all(monkeypatch, damaged):
    (damaged / "000000002").rename(damaged / "000000000.old")
    with monkeypatch.context() as patch:
        said = as_process(patch, 0)
        saver = snapshots.Snapshots(damaged, "b", warn=lambda text: None)
        assert saver.restore(snapshot(0)) is None
    assert list(damaged.iterdir()) == []
    as_process(monkeypatch, 1, said)
    warned: list[str] = []
    assert restored(damaged, warned) is None
    assert "other settings" in warned[0] and len(warned) == 2


def test_a_snapshot_that_one_process_cannot_read_is_used_by_none(monkeypatch, damaged):
    monkeypatch.setattr(snapshots, "largest", lambda value: 1)  # says another process
    warned: list[str] = []
    assert restored(damaged, warned) is None
    assert any("another process cannot use" in text for text in warned)


@pytest.fixture
def of_two(monkeypatch):
    """What the other process has noted, for each time the two agree."""
    notes: list[int] = []
    before = vars(signals._signals).copy()
    largest = lambda value: max(value, notes.pop(0) if notes else 0)
    signals.in_job(largest, speaks=False)
    handlers = {number: signal.getsignal(number) for number in signals.NUMBERS}
    yield notes
    vars(signals._signals).update(before)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_signal_to_another_process_stops_this_one(tmp_path, of_two, capsys):
    of_two[:] = [0, 0, 0, signal.SIGTERM]  # asked first when the stage begins
    asked = []

    def work():
        with resuming.resumable(stage.Stage(tmp_path / "stage", "toy"), 0) as saver:
            for update in range(1, 9):
                asked.append(update)
                if saver.due(update):
                    saver.save(snapshot(update))
        return 7

    assert signals.guarded(work, "experiments.run", [], tmp_path) == 0
    assert asked == [1, 2, 3]
    assert "To go on" not in capsys.readouterr().err  # another process says how
    os.kill(os.getpid(), signal.SIGTERM)  # the scheduler's may come later: no harm


def test_in_a_job_a_signal_waits_until_all_agree(of_two):
    with pytest.raises(signals.Interrupted, match="SIGINT") as stop:
        with signals.handled():
            os.kill(os.getpid(), signal.SIGINT)
            waited = True
            with signals.deferred():
                waited = False  # the stage must not begin
    assert waited and stop.value.status == 130


def test_a_pause_ends_a_job_but_not_a_training(of_two):
    """In a check within a training the signal waits until that is saved."""
    with signals.handled():
        signals.pause()
        with pytest.raises(signals.Interrupted), signals.deferred():
            of_two[:] = [signal.SIGTERM]
            signals.pause()
            assert of_two == [signal.SIGTERM]  # nobody has asked
        of_two[:] = []
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(signals.Interrupted, match="SIGTERM"):
            signals.pause()  # what they agreed on first


PROGRAM = """
import pathlib, sys, time
from experiments.config.language import Demo
from experiments.domains.language import mesh
from experiments.shell import command_line, signals
from experiments.stages.saver import resumable
from experiments.stages.stage import Stage

address, index, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
run = Demo(mesh="fsdp=-1", coordinator=address, num_processes=2, process_id=index)


def told(done, metrics):
    print(done, flush=True)
    time.sleep(0.02)
    if done == 5 and sys.argv[4] == "breaks" and index == 1:
        raise OSError("disk 7 is gone")
    if done == 5 and sys.argv[4] == "bug" and index == 0:
        raise KeyError("a bug")


def scored():
    # Batches of an evaluation, each a place to stop.
    for batch in range(10**6):
        signals.pause()
        told(batch, {})


def work():
    mesh.join(run)
    if sys.argv[4] == "scores":
        return scored()
    from resume_toys import fit  # has arrays of its own: not before the job is joined

    with resumable(Stage(folder, "toy"), None) as saver:
        fit(saver, num_updates=10**6, check_every=10**5, stopping=None, on_update=told)


signals.leave(lambda: command_line.status(work, "toy", sys.argv[1:], folder))
"""


def start(
    address: str, index: int, folder: pathlib.Path, what: str
) -> subprocess.Popen:
    names = ("JAX_", "XLA_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    environment |= {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/toys'}",
    }
    with (
        (folder / f"{index}.out").open("w") as out,
        (folder / f"{index}.err").open("w") as err,
    ):
        command = [sys.executable, "-c", PROGRAM, address, str(index)]
        return subprocess.Popen(
            [*command, str(folder / "stage"), what],
            env=environment,
            stdout=out,
            stderr=err,
        )


def ended(folder: pathlib.Path, what: str, signalled: Sequence[int] = ()):
    """Statuses of two processes, their output and errors, and the seconds it took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [start(address, index, folder, what) for index in (0, 1)]
    read = lambda end: [(folder / f"{n}.{end}").read_text() for n in (0, 1)]
    try:
        begun = time.monotonic()
        while not all("\n5\n" in text for text in read("out")):
            assert all(process.poll() is None for process in processes), read("err")
            assert time.monotonic() - begun < 120
            time.sleep(0.05)
        begun = time.monotonic()
        for index in signalled:
            processes[index].send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return codes, read("out"), read("err"), time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "signalled"), [("trains", [1]), ("trains", [0, 1]), ("scores", [1])]
)
def test_sigterm_stops_both_processes_at_the_same_place(tmp_path, what, signalled):
    codes, out, err, _ = ended(tmp_path, what, signalled)
    assert codes == [0, 0], err
    updates = [[line for line in text.splitlines() if line.isdigit()] for text in out]
    assert updates[0] == updates[1]
    assert "stopped by SIGTERM" in err[0]
    assert "stopped by" not in err[1]


@pytest.mark.slow
def test_an_error_of_one_process_ends_both_with_the_reason(tmp_path):
    """Process 0 waits for the other in the next update, where no Python runs."""
    codes, out, err, seconds = ended(tmp_path, "breaks")
    assert codes == [2, 2], err
    assert "error in process 1: disk 7 is gone" in err[1]
    assert "error: process 1 of the job failed: OSError: disk 7 is gone" in err[0]
    assert "Traceback" not in err[0] and "Gloo all" not in err[0] + out[0]
    assert seconds < 30


@pytest.mark.slow
def test_a_bug_in_process_0_ends_both_with_its_traceback(tmp_path):
    codes, _, err, seconds = ended(tmp_path, "bug")
    assert codes == [1, 2], err
    assert "Traceback" in err[0] and "KeyError: 'a bug'" in err[0]
    assert "error: process 0 of the job failed: KeyError: 'a bug'" in err[1]
    assert seconds < 30
