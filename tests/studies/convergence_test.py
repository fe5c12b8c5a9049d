"""The command that compares OFMU's convergence with linear algebra."""

import json

import numpy as np
import pytest

from experiments.studies import course
from experiments.studies.course import Convergence


@pytest.mark.slow
def test_limits_and_rates_are_those_on_paper(tmp_path, capsys):
    command = ["--inner-steps", "0", "1", "--outer-iterations", "150"]
    command += ["--dimension", "4", "--output-dir", str(tmp_path)]
    assert course.main(command) == 0
    assert "on paper" in capsys.readouterr().out
    assert (tmp_path / "convergence.svg").read_text().startswith("<?xml")
    rows = json.loads((tmp_path / "convergence.json").read_text())["rows"]
    exact = [row for row in rows if row["problem"] == "quadratic"]
    assert [(r["inner_steps"], r["base"]) for r in exact] == [
        (0, "inner"),
        (0, "outer"),
        (1, "inner"),
        (1, "outer"),
    ]
    for row in exact:
        assert row["from_limit_on_paper"] < 1e-8
        assert row["rate"] == pytest.approx(row["rate_on_paper"], rel=0.02)
        # Without an ascent the limit is the minimum of F, with one it is not.
        assert (row["limit_from_minimum"] < 1e-12) == (row["inner_steps"] == 0)
    for row in rows[len(exact) :]:
        norms = np.array(row["outer_grad_norm"])
        assert row["slope"] <= 0 and norms.min() < norms[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"outer_learning_rate": 3.0}, "so it diverges; lower --outer-learning-rate"),
        ({"inner_steps": (-1,)}, "--inner-steps is"),
        ({"outer_iterations": 2}, "--outer-iterations is 2; give at least 8"),
    ],
)
def test_what_has_no_limit_is_refused(options, message):
    config = {"dimension": 2, "outer_iterations": 8, "inner_steps": (0,)}
    with pytest.raises(ValueError, match=message):
        course.measure(Convergence(**(config | options)))
