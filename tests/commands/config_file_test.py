"""Options out of a file, and the command line on top of them."""

import json

import pytest

from experiments import ablations, run
from experiments.config import from_file
from experiments.config.language import Tofu
from experiments.pipeline.execute import recipe

YAML = """
command: tofu
seeds: [3, 4]
train:
  learning-rate: 2e-3
ofmu.beta: 5
npo:
  loss: {beta: 0.05}
"""
TOML = """
command = "tofu"
seeds = [3, 4]
train.learning_rate = 2e-3
ofmu.beta = 5
npo.loss.beta = 0.05
"""
JSON = """{"command": "tofu", "seeds": [3, 4], "train": {"learning_rate": 2e-3},
"ofmu": {"beta": 5}, "baselines": {"npo": {"loss": {"beta": 0.05}}}}"""
WORDS = "tofu --seeds 3 4 --train.learning-rate 2e-3 --ofmu.beta 5 --npo.loss.beta .05"
FILES = {"run.yaml": YAML, "run.yml": YAML, "run.toml": TOML, "run.json": JSON}


def written(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_what_the_same_words_say(tmp_path, name):
    path = written(tmp_path, name, FILES[name])
    meant = run.parse(WORDS.split())
    for words in (["--config", path], ["tofu", f"--config={path}"]):
        found = run.parse(words)
        assert sorted(found.explicit) == sorted(meant.explicit)
        assert str(found.config) == path
        same = {"explicit": (), "config": None}
        assert json.dumps(recipe(found) | same) == json.dumps(recipe(meant) | same)


def test_one_value_is_a_list_of_one(tmp_path):
    path = written(tmp_path, "a.yaml", "command: demo\nmethods: npo\nseeds: 3")
    found = run.parse(["--config", path])
    assert (found.methods, found.seeds) == (("npo",), (3,))


def test_the_command_line_holds_against_the_file(tmp_path):
    path = written(tmp_path, "run.yaml", YAML)
    found = run.parse(["--config", path, "--seeds", "9", "--ofmu.rho", "0.5"])
    assert (found.seeds, found.ofmu.rho, found.ofmu.beta) == ((9,), 0.5, 5.0)
    assert found.given("ofmu") == ("beta", "rho")


def test_the_config_of_a_run_gives_that_run_again(tmp_path):
    """What was tuned is as it came out of the tuning, and is not tuned again."""
    first = run.parse([*WORDS.split(), "--tune", "12", "--methods", "npo"])
    tuned = first.with_method("npo", first.config_of("npo"))
    path = written(tmp_path, "config.json", json.dumps(recipe(tuned)))
    again = run.parse(["--config", path])
    assert again.tune == 0
    assert recipe(again) | {"tune": 12, "config": None} == recipe(first)


def test_ablations_take_a_file_too(tmp_path):
    path = written(tmp_path, "run.yaml", YAML)
    found = ablations.parse(["--config", path, "--groups", "beta"])
    assert isinstance(found.run, Tofu) and found.run.seeds == (3, 4)
    assert found.ablation.groups == ("beta",)
    assert found.run.given("npo") == ("loss.beta",)


WRONG = {
    "no command": ("run.yaml", "seeds: [1]", "names no command; write it first"),
    "other command": ("run.yaml", "command: demo", "is of demo, and the command line"),
    "unknown field": ("run.toml", "sedes = [1]", "no field 'sedes', but 'seeds'"),
    "unknown in it": ("run.yaml", "train: {rate: 1}", "no field 'rate'"),
    "wrong type": (
        "run.yaml",
        "seeds: seven",
        "Tofu has seeds = 'seven'; it must be a list, each a whole number.",
    ),
    "a field of another place": (
        "run.yaml",
        "npo: {beta: 1}",
        "no field 'beta', but loss, learning_rate, weight_decay, warmup_steps; mend it",
    ),
    "a list": ("run.json", "[1, 2]", "holds no options"),
    "not YAML": ("run.yaml", "a: [1", "cannot be read"),
    "not JSON": ("run.json", "{", "cannot be read"),
    "not TOML": ("run.toml", "a =", "cannot be read"),
    "other kind": ("run.txt", "a: 1", "use .yaml, .toml or .json"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_in_a_line(tmp_path, capsys, case):
    name, text, message = WRONG[case]
    words = [] if case == "no command" else ["tofu"]
    with pytest.raises(SystemExit) as stop:
        run.parse([*words, "--config", written(tmp_path, name, text)])
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and message in printed
    assert printed.startswith("error: --config ") and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config"], "names no file"),
        (["--config", "--seeds", "1"], "names no file"),
        (["--config", "a.yaml", "--config=b.yaml"], "is given 2 times"),
        (["--config", "no/such.yaml"], "cannot be read"),
    ],
)
def test_a_file_that_is_not_there(capsys, words, message):
    with pytest.raises(SystemExit):
        run.parse(["tofu", *words])
    assert message in capsys.readouterr().err


def test_ablations_refuse_the_file_of_a_command_they_do_not_know(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ablations.parse(["--config", written(tmp_path, "a.yaml", "command: cifar")])
    assert "it knows demo, tofu" in capsys.readouterr().err


def test_help_names_the_option(capsys):
    with pytest.raises(SystemExit):
        run.parse(["tofu", "--help"])
    assert from_file.FLAG in capsys.readouterr().out
