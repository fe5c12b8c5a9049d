"""One job at a time in an output folder."""

import errno
import fcntl
import subprocess
import sys

import pytest

from experiments.pipeline import execute
from experiments.run import main
from experiments.stages import lock

HOLDER = """
import pathlib, sys, time
from experiments.stages import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_job_is_refused_until_the_first_is_killed(tmp_path, capsys):
    folder = tmp_path / "runs" / "out"  # is made
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(
            FileExistsError, match=f"in use by process {process.pid} on"
        ):
            with lock.held(folder):
                pass
        assert main(["demo", "--output-dir", str(folder)]) == 2
        printed = " ".join(capsys.readouterr().err.split())
        assert "choose another --output-dir" in printed
        process.kill()
        process.wait()
    with lock.held(folder):
        pass
    assert list(folder.iterdir()) == []  # it was there before: it stays


def test_a_folder_that_stays_empty_goes_again(tmp_path):
    with lock.held(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with lock.held(tmp_path / "new"):
        (tmp_path / "new" / "found").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["found"]


def test_a_command_gives_the_folder_back_however_it_ends(tmp_path, monkeypatch):
    def fails(run):
        with pytest.raises(FileExistsError), lock.held(run.output_dir):
            pass
        raise ValueError("no")

    monkeypatch.setattr(execute, "execute", fails)
    assert main(["demo", "--output-dir", str(tmp_path)]) == 2
    with lock.held(tmp_path):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock.held(tmp_path):
        pass
    assert "No locks available" in " ".join(capsys.readouterr().err.split())
