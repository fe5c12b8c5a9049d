"""The command that checks and times an accelerator, on the CPU."""

import json

import numpy as np
import pytest

from experiments import benchmark
from experiments.planning.architectures import architecture
from experiments.studies import accelerator, agreement, cost
from experiments.studies.pieces import pieces
from experiments.studies.shapes import Shape


def test_the_distance_is_relative_and_over_all_leaves():
    value, right = (
        {"a": np.array([3.0]), "b": np.array([4.0, 12.0])},
        {
            "a": np.array([0.0]),
            "b": np.array([0.0, 12.0]),
        },
    )
    assert agreement.distance(value, right) == pytest.approx(5 / 12)


@pytest.mark.parametrize(
    ("model", "count"),  # as published; the head is the table of embeddings
    [("llama-3.2-1b", 1_235_814_400), ("smollm2-135m", 134_515_008)],
)
def test_the_parameters_that_tokens_meet(model, count):
    assert accelerator.parameters(Shape(model)) == count


def test_a_table_of_an_untied_head_multiplies_nothing():
    config = architecture("llama-3.1-8b")
    assert not config.tie_word_embeddings
    table = config.vocab_size * config.hidden_size
    assert accelerator.parameters(Shape("llama-3.1-8b")) == 8_030_261_248 - table


def test_pieces_that_are_timed_exist():
    known = pieces(Shape(inner_steps=1))
    assert {accelerator.full_name(x, 1) for x in accelerator.PIECES} <= known.keys()


def test_what_is_measured_becomes_a_share_of_the_peak():
    took = cost.Cost(counted=2, updates=1, compiled=3.0, seconds=0.5, memory=2 * 10**9)
    found = {
        "agreement": {"loss": dict.fromkeys(agreement.PRECISIONS, 1e-3)},
        "shape": {"batch_size": 4, "length": 10},
        "rates": {"flops_per_second": 9600.0},
        "parameters": 5,
        "updates": {"GradDiff": took._asdict(), "OFMU": {"error": "no memory"}},
        "variants": {"ascent, remat none": {"error": "none"}},
        "torch": {"PyTorch eager: gradient ascent": 0.25},
    }
    _, updates = accelerator.tables(found)
    cells = [list(column.cells) for column in updates.columns]
    # 2 gradients of 40 tokens in .5 s: 160 a second, 6 · 5 · 160 of 9600.
    assert [column[0] for column in cells] == [
        *("GradDiff", "500.0", "2", "160", "50%", "2.0", "3.0 s"),
    ]
    assert cells[0][1:] == [
        *("OFMU", "ascent, remat none", "PyTorch eager: gradient ascent"),
    ]
    assert cells[1][1:] == ["—", "—", "250.0"]
    assert updates.caption == "OFMU: no memory\nascent, remat none: none"


@pytest.mark.long
def test_the_cpu_agrees_with_itself(tmp_path, capsys):
    output = tmp_path / "found.json"
    shape = ["--shape.model", "tiny", "--shape.rounds", "1", "--shape.length", "8"]
    assert benchmark.main(["accelerator", *shape, "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    for name, values in found["agreement"].items():
        assert values["highest"] <= 1e-6, name
    assert found["updates"].keys() == set(accelerator.PIECES)
    assert all(values["seconds"] > 0 for values in found["updates"].values())
    assert "tokens/s" in capsys.readouterr().out
