"""Stages: what counts as done, and what a reboot finds."""

import json
import shutil

import jax.numpy as jnp
import pytest

from experiments.stages import files
from experiments.stages import stage as stages
from ofmu_jax.training import checkpoint
from ofmu_jax.training.checkpoint import CheckpointError

PARAMS = {"w": jnp.arange(4.0)}


def trained(folder):
    """Does a stage if it is not done, and reads what it left, as a pipeline does."""
    stage = stages.Stage(folder / "training", "toy")
    redone = not stage.done
    if redone:
        stage.begin()
        for name in ("metrics.jsonl", "events"):
            (stage.folder / name).write_text("")
        checkpoint.save(stage.folder / "checkpoint", PARAMS)
        stage.finish({"seconds": 1.0})
    params = checkpoint.restore(stage.folder / "checkpoint", PARAMS)
    assert (params["w"] == PARAMS["w"]).all() and stage.result == {"seconds": 1.0}
    return redone


def damage(folder):
    files = (folder / "training/checkpoint").rglob("*")
    files = [x for x in files if x.is_file() and x.name != checkpoint.SUMS]
    largest = max(files, key=lambda x: x.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])


def test_the_remedy_for_a_damaged_checkpoint_works(tmp_path, capsys):
    assert trained(tmp_path)
    assert not trained(tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match="remove the folder") as error:
        trained(tmp_path)
    folder = tmp_path / "training/checkpoint"
    assert f"remove the folder {folder} and run again" in str(error.value)
    shutil.rmtree(folder)
    assert trained(tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert "training is done again: it was finished, and checkpoint is no" in said
    assert not trained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"training", "training.stage.json"}


def without_sum(content):
    """Another result, as an editor would write it."""
    return json.dumps(json.loads(content) | {"result": {"seconds": 0.0}})


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: "",
        lambda content: content[:-9],
        lambda content: "[1, 2]",
        lambda content: "null",
        lambda content: "[" * 100_000,
        lambda content: "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        lambda content: content.replace("toy", "toys"),
        lambda content: "{}",
        without_sum,
    ],
)
def test_a_mark_that_is_damaged_or_changed_counts_as_none(tmp_path, damaged):
    trained(tmp_path)
    mark = tmp_path / "training.stage.json"
    mark.write_text(damaged(mark.read_text()))
    assert trained(tmp_path)
    assert not trained(tmp_path)


def test_a_file_that_was_changed_is_made_again(tmp_path, capsys):
    stage = stages.Stage(tmp_path / "evaluation", "toy")
    (stage.begin() / "evaluation.json").write_text("0.25")
    stage.finish({})
    (stage.folder / "evaluation.json").write_text("0.95")
    assert not stage.done
    assert "evaluation.json has changed" in " ".join(capsys.readouterr().err.split())
    (stage.begin() / "evaluation.json").write_text("0.25")
    stage.finish({})
    assert stage.done


def test_what_was_added_to_a_result_is_named_and_goes(tmp_path, capsys):
    """Weights beside those that were exported would be sealed as its own."""
    stage = stages.Stage(tmp_path / "hf", "toy")
    (stage.begin() / "model.safetensors").write_text("1")
    stage.finish({})
    for name in (stages.RECORD, ".DS_Store", "README.md"):
        (stage.folder / name).touch()
    assert stage.done
    (stage.folder / "model.safetensors.index.json").write_text("{}")
    assert not stage.done
    told = " ".join(capsys.readouterr().err.split())
    assert "it was finished, and model.safetensors.index.json was added." in told
    (stage.begin() / "model.safetensors").write_text("1")
    stage.finish({})
    assert stage.done
    assert [path.name for path in stage.folder.iterdir()] == ["model.safetensors"]


def test_another_checkpoint_in_its_place_is_found(tmp_path, capsys):
    """A whole one, with sums of its own, such as that of the target."""
    trained(tmp_path)
    checkpoint.save(tmp_path / "training/checkpoint", {"w": jnp.ones(4)})
    assert trained(tmp_path)
    told = " ".join(capsys.readouterr().err.split())
    assert "it was finished, and checkpoint has changed" in told


def test_of_a_linked_folder_the_link_goes_and_not_what_it_points_to(tmp_path):
    trained(tmp_path)
    (tmp_path / "training").rename(tmp_path / "elsewhere")
    (tmp_path / "training").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "thesis.tex").write_text("mine")
    assert not trained(tmp_path)  # its content is as it was
    stages.Stage(tmp_path / "training", "other settings").begin()
    assert (tmp_path / "elsewhere" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "elsewhere" / "checkpoint").is_dir()


def test_what_only_people_read_may_go(tmp_path, capsys):
    trained(tmp_path)
    for name in ("metrics.jsonl", "events"):
        (tmp_path / "training" / name).unlink()
    assert not trained(tmp_path)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["evaluation.json", "model.safetensors"])
def test_a_lost_file_is_made_again(tmp_path, capsys, name):
    """Of an evaluation, of an export; what is added later does not count."""
    stage = stages.Stage(tmp_path / "results", "toy")
    for each in (name, "another"):
        (stage.begin() if each == name else stage.folder).joinpath(each).write_text("x")
    stage.finish({})
    (stage.folder / "added").write_text("x")
    assert stage.done
    (stage.folder / "added").unlink()
    assert stage.done
    (stage.folder / name).unlink()
    assert not stage.done
    assert f"{name} is no longer there" in " ".join(capsys.readouterr().err.split())
    assert not list(stage.begin().iterdir())


def test_other_settings_lose_nothing_that_anyone_would_miss(tmp_path, capsys):
    stage = stages.Stage(tmp_path / "results", "toy")
    (stage.begin() / "found").write_text("x")
    stage.finish({})
    (stage.folder / "found").unlink()
    assert not stages.Stage(tmp_path / "results", "other").done
    assert "done again" not in capsys.readouterr().err


def test_results_are_on_the_disk_before_the_mark_says_so(tmp_path, monkeypatch):
    done = []
    real = stages.sync
    for name in (files, stages, checkpoint):
        monkeypatch.setattr(name, "sync", lambda p: (done.append(p.name), real(p)))
    stage = stages.Stage(tmp_path / "out/results", "toy")
    folder = stage.begin()
    assert done[:2] == [tmp_path.name, "out"]  # the new folder's name, then its own
    (folder / "found").write_text("x")
    done.clear()
    stage.finish({})
    assert done == ["found", "results", "results.stage.json.partial", "out"]


def test_snapshots_of_other_settings_stay_until_the_new_ones_are_finished(tmp_path):
    """Finished a, begun b, looked at a, gone on with b, finished b."""
    a, b, c = (stages.Stage(tmp_path / "training", name * 64) for name in "abc")
    a.begin()
    a.finish({})
    for stage in (b, c):
        stage.begin()
        stage.progress.mkdir(parents=True)
        (stage.progress / "000000005").touch()
    assert a.done  # it takes its place again
    a.tidy()
    b.begin()
    assert (b.progress / "000000005").exists() and (c.progress / "000000005").exists()
    b.finish({})
    assert b.progress.exists() and not c.progress.exists()
    b.tidy()
    assert {path.name for path in tmp_path.iterdir()} == {
        "training",
        "training.stage.json",
    }
