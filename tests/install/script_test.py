"""`ofmu-jax`: every command of `experiments/`, named as it was called."""

import subprocess
import sys

import pytest

import ofmu_jax_cli
from experiments.shell import program
from ofmu_jax.version import __version__


def said(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ofmu_jax_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_lists_the_commands_with_what_they_do(capsys):
    with pytest.raises(SystemExit) as stop:
        ofmu_jax_cli.main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "python -m experiments.verify" not in shown
    assert "  verify       are the deletion records of a run true?" in shown
    assert {"run", "plan", "publish", "report"} < ofmu_jax_cli.commands().keys()


def test_it_says_its_version(capsys):
    with pytest.raises(SystemExit):
        ofmu_jax_cli.main(["--version"])
    assert capsys.readouterr().out == f"ofmu-jax {__version__}\n"


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        ofmu_jax_cli.main(["unlearn"])
    assert stop.value.code == 2
    assert "no command 'unlearn'; there are ablations, " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["verify", "report"])
def test_a_command_calls_itself_as_it_was_called(name):
    done = said(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: ofmu-jax {name} ")


def test_words_of_a_call(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/ofmu-jax", "--seeds", "1"])
    assert program.words("experiments.run") == ["ofmu-jax", "run"]
    monkeypatch.setattr(sys, "argv", ["/here/experiments/run.py"])
    assert program.name("experiments.run") == "python -m experiments.run"
