"""Help in three sizes, the version, and files of options for every command."""

import dataclasses
import json
import re

import pytest

from experiments import ablations, attack, benchmark, publish, run, schema
from experiments.config import attacked
from experiments.config.language import Demo
from experiments.deletion import check
from experiments.planning import table
from experiments.report import write
from experiments.studies import course
from ofmu_jax.attacks.registry import ATTACKS
from ofmu_jax.attacks.vision.registry import ATTACKS as ATTACKS_ON_IMAGES
from ofmu_jax.methods import METHODS
from ofmu_jax.methods.vision.registry import METHODS as OF_IMAGES
from ofmu_jax.version import __version__

MAINS = {
    "run": run.main,
    "ablations": ablations.main,
    "attack": attack.main,
    "benchmark": benchmark.main,
    "convergence": course.main,
    "plan": table.main,
    "publish": publish.main,
    "report": write.main,
    "verify": check.main,
}
SUBCOMMANDS = {
    "run": ("demo", "tofu", "request", "choices", "cifar"),
    "ablations": ("demo", "tofu"),
    "benchmark": tuple(benchmark.NAMES),
}
CALLS = [
    (name, *([sub] if sub else []))
    for name in MAINS
    for sub in ("", *SUBCOMMANDS.get(name, ()))
]


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def said(capsys, name, *words, status=0):
    with pytest.raises(SystemExit) as stop:
        MAINS[name](list(words))
    assert stop.value.code == status
    printed = capsys.readouterr()
    return printed.err if status else printed.out


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_help_fits_a_screen(call, capsys):
    shown = said(capsys, *call, "--help")
    assert shown.startswith(f"usage: python -m experiments.{' '.join(call)} ")
    lines = shown.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines[1:])) <= 80  # what a terminal need not cut
    assert "{None}" in shown or "--" in shown


def test_help_shows_what_is_named_and_all_the_rest_on_demand(capsys):
    some = said(capsys, "run", "demo", "--help")
    every = said(capsys, "run", "demo", "--help-all")
    for path in Demo.everyday:
        assert f"--{path.replace('_', '-')} " in some
    for option in ("--mesh ", "--npo.loss.beta ", "--evaluation.bootstrap "):
        assert option not in some and option in every
    assert "--help-all: every option" in some
    # Without a command it is the demo's, as options are.
    assert said(capsys, "run", "--help-all") == every


@pytest.mark.parametrize(
    ("call", "specs"),
    [(("run", "demo"), METHODS), (("run", "cifar"), OF_IMAGES), (("plan",), METHODS)],
)
def test_methods_are_listed_with_what_they_do(call, specs, capsys):
    lines = said(capsys, *call, "--help-method").splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(specs)
    assert all(line.partition("): ")[2] for line in lines)


@pytest.mark.parametrize(
    "call", [("run", "tofu"), ("ablations",), ("plan",), ("benchmark", "forget10")]
)
def test_the_options_of_a_method(call, capsys):
    for words in (["--help-method", "npo"], ["--help-method=npo"]):
        shown = said(capsys, *call, *words)
        assert "--npo.loss.beta " in shown and "2404.05868" in shown
        assert "--simnpo" not in shown and "--seeds" not in shown
    assert "--ofmu.beta " in said(capsys, *call, "--help-method", "ofmu")


def test_a_method_that_there_is_not(capsys):
    found = said(capsys, "run", "--help-method", "nppo", status=2)
    assert found.startswith("error: --help-method nppo is none of ofmu, ")


@pytest.mark.parametrize("name", [*MAINS, "schema"])
def test_every_command_tells_its_version(name, capsys, monkeypatch):
    monkeypatch.setitem(MAINS, "schema", schema.main)
    assert said(capsys, name, "--version") == f"ofmu-jax {__version__}\n"


SPEAK_FOR_THEMSELVES = {"float32", "bfloat16", "None", "True", "False"}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_choices_are_listed_with_what_they_mean(call, capsys):
    if call[0] in SUBCOMMANDS and len(call) == 1:
        return  # its help is that of the first subcommand
    lines = said(capsys, *call, "--help-all").splitlines()
    text = "\n".join(line.strip(" │|") for line in lines)
    for option in re.split(r"\n\s*(?=--)", text):
        choices = re.match(r"--\S+ \[?\{([\w,\s]+)\}", option)
        if not choices:
            continue
        said_of = option[choices.end() :].partition("(default:")[0]
        names = {*re.split(r"[,\s]+", choices[1])} - SPEAK_FOR_THEMSELVES
        unsaid = {n for n in names if n not in said_of and not n.startswith("resnet")}
        assert not unsaid, option


@pytest.mark.parametrize(
    ("call", "known"),
    [
        (("run", "request"), ATTACKS),
        (("run", "cifar"), ATTACKS_ON_IMAGES),
        (("attack",), ATTACKS),
    ],
)
def test_attacks_are_listed_with_what_they_do(call, known, capsys):
    lines = said(capsys, *call, "--help-attacks").splitlines()
    assert [line.split()[0] for line in lines] == list(known)
    assert all(line.partition("): ")[2] for line in lines)
    assert "--help-attacks: what each does" in said(capsys, *call, "--help")


# --- files ------------------------------------------------------------------------

REQUEST = {
    "command": "request",
    "output_dir": "out",
    "model": "base",
    "forget_file": "f.jsonl",
    "retain_file": "r.jsonl",
    "methods": ["npo"],
    "max_length": 99,
    "dtype": "bfloat16",
    "budget": {"batch_size": 7},
    "npo": {"loss": {"beta": 0.3}},
}


def written(folder, values, name="run.json"):
    path = folder / name
    path.write_text(json.dumps(values))
    return str(path)


def given(monkeypatch, name, words):
    """The options that a command would work on."""
    from experiments.shell import command_line

    found, parsed = [], command_line.parsed

    def caught(*arguments, **options):
        found.append(parsed(*arguments, **options))
        raise SystemExit(0)

    monkeypatch.setattr(command_line, "parsed", caught)
    with pytest.raises(SystemExit):
        MAINS[name](words)
    return found[0]


@pytest.mark.parametrize(
    ("name", "field"),
    [("verify", "output_dir"), ("report", "output_dir"), ("publish", "run_dir")],
)
def test_the_file_of_a_run_says_where_it_is(name, field, tmp_path, monkeypatch):
    words = ["--config", written(tmp_path, REQUEST)]
    assert str(getattr(given(monkeypatch, name, words), field)) == "out"


def test_the_file_of_a_run_is_planned(tmp_path, monkeypatch):
    words = ["--config", written(tmp_path, REQUEST), "--length", "50"]
    plan = given(monkeypatch, "plan", words)
    assert (plan.model, plan.batch_size, plan.length) == ("base", 7, 50)
    assert (plan.methods, plan.dtype) == (("npo",), "bfloat16")
    assert plan.baselines.npo.loss.beta == 0.3


def test_the_file_of_a_request_says_what_is_attacked(tmp_path, monkeypatch):
    words = ["folder", "--config", written(tmp_path, REQUEST), "--attacks", "int8"]
    options = given(monkeypatch, "attack", words)
    assert (options.folder, str(options.forget_file)) == ("folder", "f.jsonl")
    assert (options.target_model, options.attacks) == ("base", ("int8",))
    assert str(options.output_dir) == "runs/attack"


@pytest.mark.parametrize(
    ("name", "values", "field", "value"),
    [
        ("verify", {"output_dir": "o", "tolerance": 0.5}, "tolerance", 0.5),
        ("plan", {"npo.learning-rate": 0.5, "length": 9}, "length", 9),
        ("convergence", {"dimension": 3}, "dimension", 3),
        ("benchmark", {"command": "growth", "rounds": 2}, "rounds", 2),
        ("benchmark", {"command": "forget10", "seeds": [5]}, "run.seeds", (5,)),
        (
            "ablations",
            {"command": "demo", "groups": ["rho"]},
            "ablation.groups",
            ("rho",),
        ),
    ],
)
def test_options_of_its_own_come_out_of_a_file(
    name, values, field, value, tmp_path, monkeypatch
):
    found = given(monkeypatch, name, ["--config", written(tmp_path, values)])
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value


WRONG = [
    ("verify", {"output_dirr": "o"}, "no field 'output_dirr', but 'output_dir'"),
    ("plan", {"command": "cifar"}, "is a run of cifar; plans are of language models"),
    ("attack", {"command": "demo"}, "is a run of demo; attacks read that of one"),
    ("benchmark", {"command": "tofu"}, "is of tofu, which this command does not know"),
    ("benchmark", {"rounds": 2}, "names no command"),
]


@pytest.mark.parametrize(("name", "values", "message"), WRONG)
def test_a_file_that_a_command_cannot_use(name, values, message, tmp_path, capsys):
    error = said(capsys, name, "--config", written(tmp_path, values), status=2)
    assert error.startswith("error: --config ") and message in error
    assert error.count("\n") == 1


def test_a_plan_of_a_model_of_its_own_size_wants_a_name(tmp_path, capsys):
    path = written(tmp_path, {"command": "demo"})
    assert "--model" in said(capsys, "plan", "--config", path, status=2)


def test_what_is_everyday_is_there():
    for kind in (ablations.DemoAblations, attacked.Options, table.Plan, check.Verify):
        names = {field.name for field in dataclasses.fields(kind)}
        assert {path.partition(".")[0] for path in kind.everyday} <= names
