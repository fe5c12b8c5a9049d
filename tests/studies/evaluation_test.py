"""What an evaluation takes, beside PyTorch: how it is counted and said."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import benchmark
from experiments.studies import evaluation
from experiments.studies.evaluation import OURS, THEIRS


def test_the_fastest_size_counts(monkeypatch):
    clock = iter([0, 5, 5, 7, 7, 10])
    monkeypatch.setattr(evaluation.time, "perf_counter", lambda: next(clock))
    tried = []
    assert evaluation.fastest(tried.append, [8, 16, 32]) == 16
    assert tried == [8, 16, 32]
    assert evaluation.fastest(tried.append, [64]) == 64
    assert tried == [8, 16, 32]  # alone it has nothing to be compared with


def test_runs_take_turns_and_the_median_counts(monkeypatch):
    ends = iter([0, 1, 0, 4, 0, 3, 0, 6, 0, 2, 0, 5])
    monkeypatch.setattr(evaluation.time, "perf_counter", lambda: next(ends))
    order = []
    runs = {name: lambda name=name: order.append(name) or name for name in "ab"}
    found, results = evaluation.in_turns(runs, 3)
    assert order == [*"ababab"]
    assert found["seconds"] == {"a": 2, "b": 5}
    assert results == {"a": "a", "b": "b"}


def test_what_is_alike():
    assert evaluation.compared(["a", "b"], ["a", "c"]) == {"equal": 1}
    found = evaluation.compared(np.array([1.0, 2.0]), [1.5, 2.0])
    assert found == {"largest_difference": 0.5}


def test_the_table_says_how_many_times_as_fast():
    found = {
        "parameters": 1_200_000,
        "questions": 4,
        "texts": 9,
        "seconds_of_the_first_evaluation": 12.34,
        "answers": {"seconds": {OURS: 2.0, THEIRS: 7.0}, "equal": 3},
        "scores": {"seconds": {OURS: 4.0, THEIRS: 6.0}, "largest_difference": 2e-6},
    }
    table = evaluation.table(found)
    assert "1.2 M parameters, 4 questions, 9 texts" in str(table.title)
    cells = [list(column.cells) for column in table.columns]
    assert cells == [
        ["answers", "scores"],
        ["2.00", "4.00"],
        ["7.00", "6.00"],
        ["3.50", "1.50"],
        ["3 of 4", "± 2.0e-06"],
    ]


@pytest.mark.slow
def test_an_evaluation_is_measured(data_dir, tmp_path, monkeypatch):
    """Two rows of each set of TOFU, without PyTorch."""
    small = dataclasses.replace(evaluation.SMALL, hidden_size=16, num_layers=1)
    monkeypatch.setattr(evaluation, "SMALL", small)
    output = tmp_path / "found.json"
    arguments = [
        *("evaluation", "--data-dir", str(data_dir / "tofu"), "--rounds", "1"),
        *("--evaluation.max-rows", "2", "--evaluation.max-new-tokens", "3"),
        *("--output", str(output)),
    ]
    assert benchmark.main(arguments) == 0
    found = json.loads(output.read_text())
    assert found["questions"] == 4 * 2
    # Seven texts of a forget and of a retain row, 4 and 5 of a fact, 1 of a wording
    # that is held out.
    assert found["texts"] >= 2 * (7 + 7 + 4 + 4)
    assert found["answers"]["seconds"].keys() == {OURS}
    assert found["options"]["evaluation"]["max_rows"] == 2
