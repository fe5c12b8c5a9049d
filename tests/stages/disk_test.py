"""A disk that takes no more: one line with the path, and nothing good is lost."""

import contextlib
import errno
import json
import logging
import os
import resource

import jax.numpy as jnp
import model_families as families
import pytest
import safetensors

from experiments.run import main
from experiments.shell import command_line
from experiments.stages import files
from experiments.stages.metrics_log import MetricsLog
from ofmu_jax import _disk
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.models import tensor_files, tensor_writer
from ofmu_jax.models.huggingface.folder import load_pretrained, save_pretrained
from ofmu_jax.training import checkpoint
from ofmu_jax.training.snapshots import Snapshots

REMEDIES = {"File too large": "Raise the limit", "Read-only file system": "Make the d"}
LINE = r"no room for the {} {} \({}\): .*what was there before is intact\. {}"


@contextlib.contextmanager
def largest_file(size):
    """Within it the system refuses files of more bytes: EFBIG, as a disk's ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(what, path, why="File too large"):
    remedy = REMEDIES.get(why, "Make room and run the same command again")
    return pytest.raises(OSError, match=LINE.format(what, path, why, remedy))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("given", [False, True])
def test_an_export(tmp_path, given):
    """The folder is absent, or whole."""
    tensors = families.tensors_of("llama2")
    source = families.write(tmp_path / "in", families.ALL["llama2"], tensors)
    config, params = load_pretrained(source)
    options = {"source": source} if given else {}
    with largest_file(9000), refused("model folder", tmp_path / "out") as caught:
        save_pretrained(tmp_path / "out", params, config, **options)
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == ["in"]
    save_pretrained(tmp_path / "out", params, config, **options)


@pytest.mark.parametrize("code", _disk.CODES)
@pytest.mark.parametrize("kind", [OSError, safetensors.SafetensorError])
def test_every_code_in_every_form(tmp_path, monkeypatch, code, kind):
    why = os.strerror(code)
    text = f"Error while serializing: I/O error: {why} (os error {code})"
    arguments = (code, why) if kind is OSError else (text,)

    def fail(*_, **__):
        raise kind(*arguments)

    monkeypatch.setattr(tensor_writer, "_append", fail)
    with refused("model folder", tmp_path / "out", why) as caught:
        with tensor_files.new_folder(tmp_path / "out") as folder:
            tensor_writer.write_file(folder / "x", {}, {}.get)
    assert caught.value.errno == code
    assert names(tmp_path) == []


def test_a_report_and_every_other_file(tmp_path):
    path = tmp_path / "report.html"
    files.write_text(path, "good")
    with largest_file(1000), refused("file", path):
        files.write_text(path, "x" * 2000)
    assert path.read_text() == "good"
    assert names(tmp_path) == ["report.html"]
    with largest_file(1000), refused("file", path):
        files.write_with(path, lambda partial: partial.write_bytes(bytes(2000)))
    assert path.read_text() == "good"


def test_an_evaluation(tmp_path):
    path = tmp_path / "evaluation.json"
    Evaluation({"a": 1.0}, {}, {}).save(path)
    many = Evaluation({f"m{i}": 1.0 for i in range(500)}, {}, {})
    with largest_file(1000), refused("evaluation", path):
        many.save(path)
    assert Evaluation.load(path).metrics == {"a": 1.0}
    assert names(tmp_path) == ["evaluation.json"]


def test_a_checkpoint(tmp_path, caplog):
    path = tmp_path / "checkpoint"
    checkpoint.save(path, {"w": jnp.ones(3)})
    noise = jnp.arange(9000.0) ** 1.7  # which does not compress
    with largest_file(2000), refused("checkpoint", path):
        checkpoint.save(path, {"w": noise})
    assert checkpoint.restore(path, {"w": jnp.zeros(3)})["w"].tolist() == [1, 1, 1]
    assert names(tmp_path) == ["checkpoint"]
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_logs_end_a_run_and_do_not_wait_for_ever(tmp_path):
    log = MetricsLog(tmp_path)
    with largest_file(3000), refused("log", tmp_path / "metrics.jsonl"):
        for update in range(1000):
            log.write(update, {"loss": 0.5})


def test_event_files_are_what_tensorboard_reads(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(3, {"loss": 0.5, "broken": float("nan")})
    log.close()
    (path,) = (tmp_path / "events").iterdir()
    assert b"loss" in path.read_bytes() and b"broken" not in path.read_bytes()
    assert path.name.startswith("events.out.tfevents.")
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row == {"update": 3, "loss": 0.5, "broken": None}


def test_whatever_else_meets_a_full_disk_in_a_command(tmp_path, capsys):
    def work():
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    assert command_line.tried(work, tmp_path / "out") == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert f"no room for what is written to {tmp_path}/out (Disk quota" in printed
    assert "Traceback" not in printed


# --- names that are patterns


@pytest.mark.parametrize("name", ["a[x]", "a*", "a?b", "a\\b", "a["])
@pytest.mark.parametrize("within", [False, True])
def test_an_output_folder_that_is_a_pattern(
    tmp_path, monkeypatch, capsys, name, within
):
    """In its own name, or in that of the folder where the command runs."""
    place = tmp_path / name
    if within:
        place.mkdir()
        monkeypatch.chdir(place)
    out = "runs/out" if within else str(place / "out")
    assert main(["demo", "--output-dir", out]) == 2
    printed = "".join(capsys.readouterr().err.split())
    mark = next(mark for mark in name if mark in "*?[\\")
    assert str(place) in printed and f"has{mark}initsname" in printed
    assert not (place.exists() and list(place.iterdir()))


@pytest.mark.parametrize("mark", _disk.PATTERN)
def test_a_checkpoint_in_a_folder_that_is_a_pattern(tmp_path, mark):
    folder = tmp_path / f"a{mark}b"
    with pytest.raises(ValueError, match="Orbax reads a pattern"):
        checkpoint.save(folder / "checkpoint", {"w": jnp.ones(3)})
    with pytest.raises(ValueError, match="Orbax reads a pattern"):
        Snapshots(folder, "identity")
    Snapshots(folder, "identity", every=0).close()
    assert not folder.exists()


def test_names_that_are_no_pattern(tmp_path):
    folder = tmp_path / "a{b} %41#~é$'\"]:&"
    checkpoint.save(folder / "checkpoint", {"w": jnp.ones(3)})
    assert (
        checkpoint.restore(folder / "checkpoint", {"w": jnp.zeros(3)})["w"].sum() == 3
    )
