"""The programs and the notebook of docs/examples run, and do what they say."""

import contextlib
import importlib.util
import io
import json
import pathlib

import matplotlib
import numpy as np
import pytest
import real_folders

from ofmu_jax.models import classifier
from ofmu_jax.models.huggingface import folder as huggingface

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs/examples"
NOTEBOOK = json.loads((FOLDER / "unlearn.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def example(name):
    """A program as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here():
    names = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert names == {
        "checkpoint.py",
        "own_model.py",
        "classifier.py",
        "unlearn.ipynb",
    }


def test_a_checkpoint(tmp_path):
    given = real_folders.qwen(tmp_path / "given")
    forget = real_folders.rows(tmp_path / "forget.jsonl", ("Who is Ada?", "A writer."))
    retain = real_folders.rows(tmp_path / "retain.jsonl", ("Who is Bo?", "A painter."))
    paths = map(str, (given, forget, retain, tmp_path / "out"))
    options = dict(method="gradient_ascent", gradient_evaluations=1)
    run = example("checkpoint").main(*paths, **options, forget_target=None)
    assert [row["update"] for row in run.history] == [1]
    config, _ = huggingface.load_pretrained(tmp_path / "out")
    assert config == huggingface.load_pretrained(given)[0]


@pytest.mark.slow
def test_a_model_of_ones_own():
    run, found = example("own_model").main()
    assert "forget target 2.303 met" in run.stopped
    before, after = found["before"], found["after"]
    assert before[0] > 0.8 and after[0] < 0.4  # of the threes
    assert min(before[1], after[1]) > 0.9  # of the other digits


@pytest.mark.slow
def test_a_classifier(tmp_path):
    options = dict(updates=2, method="fine_tune", gradient_evaluations=2)
    run = example("classifier").main(str(tmp_path / "out"), **options)
    assert run.metrics["before"].keys() == run.metrics["after"].keys()
    config, variables = classifier.load(tmp_path / "out")
    assert config.num_classes == 10
    np.testing.assert_array_equal(
        variables.params["head"]["kernel"], run.params.params["head"]["kernel"]
    )


def test_the_notebook_shows_what_its_cells_gave():
    """Every cell was run, in order, and none ended with an error."""
    assert [cell["execution_count"] for cell in CELLS] == [*range(1, len(CELLS) + 1)]
    kinds = [out["output_type"] for cell in CELLS for out in cell["outputs"]]
    assert {*kinds} == {"stream", "execute_result", "display_data"}


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """Cell after cell, as someone who reads it does."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    names: dict = {"__name__": "__main__"}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in CELLS:
            exec("".join(cell["source"]), names)
    before, after = (names["run"].metrics[when] for when in ("before", "after"))
    assert before["forget_prob"] > 0.8 and before["retain_prob"] > 0.8
    assert after["forget_prob"] < 0.1 and after["retain_prob"] > 0.8
    text = said.getvalue()
    assert "bta= is no option of npo (did you mean beta?)" in text
    assert text.endswith("the same parameters: True\n")
    assert (tmp_path / "unlearned/model.safetensors").is_file()
