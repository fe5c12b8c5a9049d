"""Methods that break: the others go on, and the report says what became of them."""

import dataclasses
import json
import types

import jax
import pytest

from experiments.config.language import (
    BudgetConfig,
    Demo,
    EvalConfig,
    ModelConfig,
    TrainConfig,
)
from experiments.domains.language.domain import LanguageDomain
from experiments.pipeline import broken, search, tuning
from experiments.pipeline.execute import execute
from experiments.stages.fit import Job
from ofmu_jax.evals import EvaluationError

TINY = Demo(
    seeds=(0,),
    people=4,
    forget_people=1,
    methods=("simnpo", "grad_diff", "gradient_ascent"),
    export=False,
    model_size=ModelConfig(16, 32, 1, 1, 1, 512),
    train=TrainConfig(epochs=1, batch_size=16),
    budget=BudgetConfig(gradient_evaluations=12, batch_size=4, checks=2),
    evaluation=EvalConfig(batch_size=32, max_new_tokens=2, max_rows=2, bootstrap=5),
)
NO_MEMORY = "RESOURCE_EXHAUSTED: out of memory allocating 99 bytes"


def too_large() -> jax.errors.JaxRuntimeError:
    return jax.errors.JaxRuntimeError(f"{NO_MEMORY}.\nlong\nstory")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One method has no memory, one diverges, one has no scores."""
    config = dataclasses.replace(TINY.config_of("grad_diff"), learning_rate=1e30)
    run = TINY.with_method("grad_diff", config)
    run = dataclasses.replace(run, output_dir=tmp_path_factory.mktemp("broken") / "out")
    jobs, evaluate = LanguageDomain.unlearning, LanguageDomain.evaluate

    def unlearning(self, name, *more) -> Job:
        if name == "simnpo":
            raise too_large()
        return jobs(self, name, *more)

    def evaluated(self, folder, model, reference, tell):
        if model.name == "gradient_ascent":
            raise EvaluationError("example 3: the log-probabilities are not finite")
        return evaluate(self, folder, model, reference, tell)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageDomain, "unlearning", unlearning)
        patch.setattr(LanguageDomain, "evaluate", evaluated)
        execute(run)
    assert (run.output_dir / "report.html").is_file()
    return json.loads((run.output_dir / "report.json").read_text())


@pytest.mark.slow
def test_every_method_has_its_row(report):
    rows = {row["method"]: row for row in report["models"]}
    assert list(rows)[2:] == list(TINY.methods)
    target, diverged = rows["target"], rows["grad_diff"]
    assert diverged["metrics"] == target["metrics"]  # the last good parameters
    assert diverged["stopped"].startswith("forget_loss is nan at update 3; returned ")
    assert diverged["stopped"].endswith("parameters, of update 0")
    assert rows["simnpo"]["metrics"] == rows["gradient_ascent"]["metrics"] == {}
    assert rows["simnpo"]["stopped"] == NO_MEMORY
    assert rows["simnpo"]["missing"] == [f"{broken.ALL}: {NO_MEMORY}"]
    assert "no scores: example 3" in rows["gradient_ascent"]["stopped"]
    assert rows["gradient_ascent"]["outer_steps"] > 0
    told = " ".join(report["notes"])
    for name in TINY.methods:
        assert f"{name}, seed 0 broke off and is no result" in told


def test_of_several_processes_memory_is_no_error_of_a_method(monkeypatch):
    assert jax.errors.JaxRuntimeError in broken.causes()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert jax.errors.JaxRuntimeError not in broken.causes()
    assert FloatingPointError in broken.causes()


def test_a_trial_that_breaks_is_the_worst(monkeypatch, tmp_path):
    trials = tuning.Tuning.__new__(tuning.Tuning)
    trials.validation = types.SimpleNamespace(run=dataclasses.replace(TINY, tune=4))
    told = iter([{"score": 0.5}, too_large(), {"score": 0.25}, FloatingPointError("x")])

    def scored(self, *_):
        found = next(told)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(tuning.Tuning, "_scored", scored)
    config = TINY.config_of("npo")
    trial = lambda number, found: trials._trial("npo", number, found)
    chosen, records = search.best(config, TINY.specs["npo"].search, 4, trial)
    assert [record["score"] for record in records] == [0.5, None, 0.25, None]
    assert records[1]["stopped"] == NO_MEMORY
    assert [record["chosen"] for record in records] == [False, False, True, False]
    assert chosen == search.trials(config, TINY.specs["npo"].search, 4)[2]
