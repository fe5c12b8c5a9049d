"""Trackers: what they are told, what is refused, and that none of them ends a run."""

import json

import pytest
from recorders import Recorder, kind

from experiments.config.common import TrackerName
from experiments.run import main
from experiments.stages.metrics_log import MetricsLog
from experiments.stages.trackers import registry
from experiments.stages.trackers.base import About, Kind

ROW = {"forget_loss": 0.5, "broken": float("nan")}


@pytest.fixture
def recorders(monkeypatch):
    """Recorders in place of both trackers; the list of those that were started."""
    started = []
    monkeypatch.setitem(registry.TRACKERS, "wandb", kind(started))
    monkeypatch.setitem(registry.TRACKERS, "mlflow", kind(started, fails="log"))
    return started


def about(folder):
    tags = {"role": "unlearned", "method": "npo", "seed": "0"}
    return About("npo, seed 0", "demo", tags, {"npo": {"loss": {"beta": 0.1}}}, folder)


def tell(names, folder, identity="a"):
    """One update and an evaluation, to the trackers of these names."""
    with registry.told(names, about(folder), folder / "training", identity) as told:
        (folder / "training").mkdir(exist_ok=True)
        log = MetricsLog(folder / "training", told)
        log.write(3, ROW)
        log.close()
        told.evaluated({"forget_prob": 0.25, "unknown": None})


def test_the_options_are_those_of_the_registry():
    assert {"none", *registry.TRACKERS} == {*TrackerName.__args__}


def test_finite_numbers_are_told_and_a_tracker_that_fails_is_left_out(
    recorders, tmp_path, capsys
):
    tell(("wandb", "mlflow"), tmp_path)
    good, failing = recorders
    assert good.calls == [
        ("log", 3, {"forget_loss": 0.5}),
        ("evaluated", {"forget_prob": 0.25}),
        ("close", True),
    ]
    assert failing.calls == []
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and "--tracker mlflow" in said
    assert "no route to the server" in said


def test_a_model_keeps_its_run_until_it_is_another_one(recorders, tmp_path):
    for identity in ("a", "a", "b"):
        tell(("wandb",), tmp_path, identity)
    assert [run.given for run in recorders] == [None, "fresh", None]
    (tmp_path / "training.trackers.json").write_text("{")
    tell(("wandb",), tmp_path, "b")
    assert recorders[-1].given is None


def test_what_breaks_off_is_closed_as_such(recorders, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with registry.told(("wandb",), about(tmp_path), tmp_path / "training", "a"):
            raise KeyboardInterrupt
    assert recorders[0].calls == [("close", False)]


def test_a_package_that_is_missing_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(
        registry.TRACKERS, "wandb", Kind("absent_tracker", list, Recorder)
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "absent_tracker").mkdir()  # as the logs of wandb lie in ./wandb
    out = tmp_path / "out"
    assert main(["demo", "--tracker", "wandb", "--output-dir", str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "pip install 'ofmu-jax[wandb]'" in said and not (out / "target").exists()


def test_a_tracker_that_cannot_work_is_refused_with_its_reason(monkeypatch):
    def check():
        raise RuntimeError("no key")

    monkeypatch.setitem(registry.TRACKERS, "wandb", Kind("json", check, Recorder))
    with pytest.raises(ValueError, match="--tracker wandb cannot be used: no key"):
        registry.check(("wandb",))


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    registry.check(("wandb",))
    tell(("wandb",), tmp_path)
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    sent = path.read_bytes()
    for text in (b"ofmu-jax", b"npo, seed 0", b"method:npo", b"seed:0", b'"beta":0.1'):
        assert text in sent
    assert b"forget_loss" in sent and b"evaluation/forget_prob" in sent
    assert b"broken" not in sent
    ids = json.loads((tmp_path / "training.trackers.json").read_text())["ids"]
    assert path.name == f"run-{ids['wandb']}.wandb"


def test_mlflow_in_a_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    registry.check(("mlflow",))
    tell(("mlflow",), tmp_path)
    tell(("mlflow",), tmp_path)  # as if interrupted: the same run goes on
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("ofmu-jax")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "npo, seed 0" and run.info.status == "FINISHED"
    assert run.data.params == {"npo.loss.beta": "0.1"}
    assert run.data.metrics == {"forget_loss": 0.5, "evaluation/forget_prob": 0.25}
    tags = {"role": "unlearned", "method": "npo", "seed": "0", "group": "demo"}
    assert tags.items() <= run.data.tags.items()
    assert client.get_metric_history(run.info.run_id, "forget_loss")[0].step == 3
