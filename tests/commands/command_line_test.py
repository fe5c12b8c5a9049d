"""What a command says before it does anything, and the status that it ends with."""

import pathlib

import pytest

from experiments import ablations, benchmark, publish, run
from experiments.deletion import check
from experiments.pipeline import execute
from experiments.planning import table
from experiments.report import write
from experiments.shell import command_line
from experiments.studies import course

MAINS = {
    "run": run.main,
    "verify": check.main,
    "plan": table.main,
    "publish": publish.main,
    "ablations": ablations.main,
    "benchmark": benchmark.main,
    "convergence": course.main,
    "report": write.main,
}
HELPS = [
    *((name, ["--help"]) for name in MAINS),
    *(
        ("run", [name, "--help"])
        for name in ("demo", "tofu", "request", "choices", "cifar")
    ),
    *(("ablations", [name, "--help"]) for name in ("demo", "tofu")),
]


@pytest.mark.parametrize(("name", "arguments"), HELPS)
def test_help_writes_nothing_and_names_the_command(
    name, arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        MAINS[name](arguments)
    printed = capsys.readouterr()
    assert stop.value.code == 0 and printed.err == ""
    usage = printed.out.splitlines()[0]
    assert usage.startswith(f"usage: python -m experiments.{name} ")
    assert str(pathlib.Path(__file__).parent.parent.parent) not in printed.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["run", "ablations"])
def test_help_calls_no_command_required(name, capsys):
    with pytest.raises(SystemExit):
        MAINS[name](["--help"])
    shown = capsys.readouterr().out
    assert "(default: demo)" in shown and "required" not in shown


@pytest.mark.parametrize("arguments", [[], ["--seeds", "3"]])
def test_without_a_command_the_first_line_says_that_it_is_the_demo(arguments, capsys):
    assert run.parse(arguments) == run.parse(["demo", *arguments])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "python -m experiments.run: no command was given, so this is the embedded "
        "demo; it takes some six minutes on two cores. All commands: python -m "
        "experiments.run --help\n"
    )


def test_a_command_that_is_given_says_nothing_of_the_demo(capsys):
    run.parse(["cifar"])
    ablations.parse(["demo"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("failed", "status"),
    [([], 0), ([False], 0), ([True], 3), ([True, False], 0), ([True, True], 3)],
)
def test_a_run_in_which_no_method_forgot_has_a_status_of_its_own(
    failed, status, tmp_path, monkeypatch
):
    found = {"verdicts": [{"failed": each} for each in failed]}
    monkeypatch.setattr(execute, "execute", lambda run: found)
    assert run.main(["demo", "--output-dir", str(tmp_path / "out")]) == status
    assert command_line.NOT_REACHED == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("benchmark --batch-size 0", "--batch-size is 0; it must be at least 1."),
        ("benchmark growth --rounds 0", "--rounds is 0; it must be at least 1."),
        ("benchmark --rounds -1", "--rounds is -1; it must be at least 1."),
        ("benchmark accelerator --shape.length 1", "--shape.length is 1; it must be"),
        ("benchmark --model nowhere", "--model 'nowhere' is no folder"),
        ("plan --batch-size 0", "--batch-size is 0; it must be at least 1."),
        ("plan --length -3", "--length is -3; it must be at least 2."),
        ("plan --device-bytes nan", "--device-bytes is nan; it must be a finite"),
        ("plan --ofmu.beta inf", "--ofmu.beta is inf; it must be a finite number."),
        ("convergence --rho nan", "--rho is nan; it must be a finite number."),
        ("convergence --dimension 0", "--dimension is 0; it must be at least 1."),
        ("convergence --inner-steps 1 -1", "--inner-steps is 1 -1; give numbers"),
    ],
)
def test_a_number_out_of_range_is_one_line(
    line, message, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    name, *arguments = line.split()
    assert MAINS[name](arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {message}") and printed.err.count("\n") == 1
    assert printed.out == "" and list(tmp_path.iterdir()) == []
