"""What a report says before its numbers."""

import dataclasses
import pathlib

from experiments.config.language import Tofu
from experiments.domains.base import Model
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.rows import taught
from experiments.report.remarks import remarks
from ofmu_jax.evals.evaluation import Evaluation

KEPT = LanguageDomain.kept


def model(role, name, retain, utility=0.5):
    metrics = {"retain_Q_A_Prob": retain, "model_utility": utility}
    folder = pathlib.Path(name)
    return Model(role, name, 0, None, "", {}, folder, evaluation=Evaluation(metrics))


def test_broken_and_unmoved_models_are_named():
    models = [
        model("retrained", "retrained", 0.01),
        model("target", "target", 0.9),
        model("unlearned", "ofmu", 0.089),
        model("unlearned", "npo", 0.091),
        model("unlearned", "grad_diff", 0.9),
    ]
    broken, unmoved = remarks(KEPT, models)
    assert broken.startswith("ofmu, seed 0 broke the model: 0.089 is left of a retain")
    assert "grad_diff, seed 0 left the model as it was" in unmoved


def test_a_run_that_broke_off_is_named():
    stopped = "retain_loss is nan at update 2"
    broken = model("unlearned", "npo", 0.9)
    broken.record.update(finite=False, stopped=stopped)
    (note,) = remarks(KEPT, [model("target", "target", 0.9), broken])
    assert note == f"npo, seed 0 broke off and is no result: {stopped}."


def test_the_source_of_refusals_is_told(tmp_path):
    run = Tofu(methods=("idk_dpo",), data_dir=tmp_path)
    assert "the 10 refusals that are built in" in taught(run, "idk_dpo")
    (tmp_path / "idontknow.jsonl").write_text("I'm not sure.\nNo idea.\n")
    assert f"the 2 refusals of {tmp_path / 'idontknow.jsonl'}" in taught(run, "idk_dpo")
    other = tmp_path / "no.txt"
    other.write_text("No.")
    note = taught(dataclasses.replace(run, refusals_file=other), "idk_dpo")
    assert f"the 1 refusals of {other}" in note
