"""Exponents of times that are known, and the sizes that are timed."""

import json

import numpy as np
import pytest

from experiments import benchmark
from experiments.studies import growth

AXES = growth.Growth().axes


def test_the_exponent_of_an_exact_power():
    fit = growth.fitted([1, 2, 4, 8], [3, 6 * 2**0.5, 24, 48 * 2**0.5])  # 3 x^1.5
    assert fit.exponent == pytest.approx(1.5)
    assert np.exp(fit.intercept) == pytest.approx(3)
    assert fit.standard_error == pytest.approx(0, abs=1e-9)


def test_the_standard_error_is_that_of_least_squares():
    # ln x = −1, 0, 1 and residues 1/3 of (1, −2, 1): s² = 6/9 / 1, over Σ x² = 2.
    x = np.exp([-1.0, 0.0, 1.0])
    y = np.exp([0.0, 0.0, 2.0])  # slope 1, mean 2/3: residues 1/3, −2/3, 1/3
    fit = growth.fitted(list(x), list(y))
    assert fit.exponent == pytest.approx(1.0)
    assert fit.standard_error == pytest.approx((6 / 9 / 2) ** 0.5)


@pytest.mark.parametrize("axis", AXES)
def test_sizes_grow_and_nothing_else_does(axis):
    points = growth.points(axis)
    sizes = [point.size for point in points]
    assert sizes == sorted(set(sizes)) and len(sizes) >= 4
    changed = {
        "depth": len({p.config.num_layers for p in points}),
        "width": len({p.config.hidden_size for p in points}),
        "batch": len({p.shape.batch_size for p in points}),
        "length": len({p.shape.length for p in points}),
        "steps": len({p.inner_steps for p in points}),
    }
    assert changed.pop(axis, len(points)) == len(points)
    assert set(changed.values()) == {1}


def test_parameters_are_counted():
    config = growth.points("depth")[0].config
    table, width, middle = 1024 * 96, 96, 288
    attention = 2 * width * 96 + 2 * width * 48
    layer = attention + 3 * width * middle + 2 * width
    assert growth.parameters(config) == table + layer + width


def test_what_is_found_is_written_and_drawn(tmp_path, monkeypatch, capsys):
    def seconds(axis, recipe, rounds):
        assert (recipe, rounds) == ("ofmu", 2)
        return [1e-3 * point.size**2 for point in growth.points(axis)]

    monkeypatch.setattr(growth, "seconds", seconds)
    output = tmp_path / "grown.json"
    words = ["growth", "--axes", "batch", "steps", "--rounds", "2"]
    assert benchmark.main([*words, "--output", str(output)]) == 0
    axes = json.loads(output.read_text())["axes"]
    assert [axes[name]["exponent"] for name in axes] == pytest.approx([2.0, 2.0])
    assert axes["batch"]["sizes"] == [2, 4, 8, 16, 32]
    assert output.with_suffix(".svg").read_text().count("<svg") == 1
    assert "standard error" in capsys.readouterr().out


@pytest.mark.slow
def test_simulated_devices_take_their_share_of_the_rows(capsys):
    assert benchmark.main(["growth", "--axes", "devices", "--rounds", "1"]) == 0
    assert "1, 2, 4, 8" in capsys.readouterr().out
