"""A stage has one whole result at any time: the last finished one, or the new one."""

import contextlib
import pathlib
import shutil

import pytest

from experiments.stages import stage as stages


def test_an_interrupted_stage_is_done_again(tmp_path):
    stage = stages.Stage(tmp_path / "a" / "training", "print")
    (stage.begin() / "half").write_text("written")
    assert not stage.done
    fresh = stages.Stage(tmp_path / "a" / "training", "print")
    assert not list(fresh.begin().iterdir())
    fresh.finish({"x": 1})
    assert fresh.done
    assert fresh.result == {"x": 1}
    assert not stages.Stage(tmp_path / "a" / "training", "other").done


def finished_stage(folder, fingerprint, content):
    stage = stages.Stage(folder, fingerprint)
    (stage.begin() / "found").write_text(content)
    stage.finish({"content": content})
    return stage


def test_a_result_is_kept_until_that_of_other_settings_is_finished(tmp_path):
    folder = tmp_path / "training"
    first = finished_stage(folder, "first", "1")
    for name in ("second", "third"):  # both fail
        other = stages.Stage(folder, name)
        assert not other.done
        assert not list(other.begin().iterdir())
        (folder / "half").write_text("x")
        assert not other.done
    assert first.done and first.result == {"content": "1"}
    assert [path.name for path in folder.iterdir()] == ["found"]
    assert not (tmp_path / "training.earlier").exists()
    second = finished_stage(folder, "second", "2")
    assert second.done and not first.done
    assert (folder / "found").read_text() == "2"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"training", "training.stage.json"}


def test_ended_anywhere_between_results_a_stage_has_one_of_them(tmp_path, monkeypatch):
    for calls in range(40):
        folder = tmp_path / str(calls) / "training"
        first = finished_stage(folder, "first", "1")
        left = [calls]

        def ends(real, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patched:
            for name in ("unlink", "rename", "touch", "mkdir", "replace"):
                real = getattr(pathlib.Path, name)
                patched.setattr(pathlib.Path, name, ends(real))
            for name in ("copyfile", "rmtree"):
                patched.setattr(stages.shutil, name, ends(getattr(shutil, name)))
            with contextlib.suppress(KeyboardInterrupt):
                finished_stage(folder, "second", "2")
        second = stages.Stage(folder, "second")
        assert second.done or first.done
        found = second if second.done else first
        assert found.result["content"] == (folder / "found").read_text()
        if left[0] >= 0:  # nothing was interrupted
            break
    assert calls > 5 and second.done


def test_a_foreign_folder_is_not_deleted(tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="not made by this command"):
        stages.Stage(tmp_path / "training", "print").begin()
    assert (tmp_path / "training" / "thesis.tex").exists()
