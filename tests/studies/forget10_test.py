"""The study for an accelerator: what is packed, its clock, its plan, all of it."""

import json
import pathlib

import numpy as np
import pytest

from experiments import benchmark
from experiments.config.language import Tofu
from experiments.config.parts import ModelConfig
from experiments.domains.language import handed_back
from experiments.domains.language.domain import LanguageDomain
from experiments.pipeline import pipeline
from experiments.report import published
from experiments.studies.forget10 import expected, packing, study
from experiments.studies.forget10.clock import Clock
from ofmu_jax.data.language.padding import IGNORE, Encoded
from ofmu_jax.methods import METHODS
from ofmu_jax.training import checkpoint
from ofmu_jax.unlearning.language import tokens


def test_it_runs_all_methods():
    assert sorted(study.METHODS) == sorted(METHODS)
    assert (study.STUDY.split, study.STUDY.max_retain) == ("forget10", None)
    assert len(study.STUDY.seeds) == 3


# --- the pack ---------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    """A pack of 10 kB that does not compress, in parts of 4 kB, and its files."""
    noise = np.random.default_rng(0).bytes(10_000)
    files = {}
    for name, text in {"a/b.bin": noise, "c.txt": b"c"}.items():
        files[name] = tmp_path / pathlib.Path(name).name
        files[name].write_bytes(text)
    count = packing.pack(files, tmp_path / "pack", 4096)
    return count, tmp_path / "pack", {k: x.read_bytes() for k, x in files.items()}


def test_parts_are_no_larger_than_asked_and_give_the_files_back(packed, tmp_path):
    count, folder, files = packed
    parts = sorted(folder.glob("part*"))
    assert [x.name for x in parts] == ["part01", "part02", "part03"]
    assert count == 3 and [x.stat().st_size for x in parts[:2]] == [4096, 4096]
    to = packing.unpack(folder, tmp_path / "run/inputs")
    assert {name: (to / name).read_bytes() for name in files} == files


def test_what_is_unpacked_stays_where_the_parts_are_gone(packed, tmp_path):
    _, folder, _ = packed
    to = packing.unpack(folder, tmp_path / "inputs")
    for part in folder.glob("part*"):
        part.unlink()
    assert (packing.unpack(folder, to) / "c.txt").read_bytes() == b"c"
    (to / "c.txt").write_bytes(b"d")  # changed, so it would be done again
    with pytest.raises(ValueError, match="3 parts and part01 is not there"):
        packing.unpack(folder, to)


def test_a_part_that_was_damaged_is_refused(packed, tmp_path):
    _, folder, _ = packed
    (folder / "part02").write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="part02 is not what was packed"):
        packing.unpack(folder, tmp_path / "inputs")
    with pytest.raises(FileExistsError, match="not empty"):
        packing.pack({}, folder, 1)
    with pytest.raises(ValueError, match="no folder that --prepare has written"):
        packing.unpack(tmp_path / "nothing", tmp_path / "inputs")


def test_tokens_come_back(tmp_path):
    def row(*ids, prompt):
        ids = np.array(ids, np.int32)
        return Encoded(ids, np.where(np.arange(len(ids)) < prompt, IGNORE, ids), prompt)

    rows = {("q", "é"): row(5, 6, 7, prompt=2), ("q", "b"): row(5, 9, prompt=1)}
    asked = {"q": np.array([5, 6], np.int32)}
    tokens.save(tmp_path / "tokens.npz", tokens.Tokens(rows, asked), "made")
    found = tokens.load(tmp_path / "tokens.npz", "made")
    assert list(found.rows) == list(rows) and list(found.prompts) == ["q"]
    for pair, expected_row in rows.items():
        assert found.rows[pair].prompt_length == expected_row.prompt_length
        for field in ("input_ids", "labels"):
            ours, theirs = (getattr(x[pair], field) for x in (found.rows, rows))
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == np.int32
    np.testing.assert_array_equal(found.prompts["q"], [5, 6])
    with pytest.raises(ValueError, match="another tokenizer"):
        tokens.load(tmp_path / "tokens.npz", "else")


# --- time -------------------------------------------------------------------------


def test_a_method_is_expected_to_take_what_was_seen():
    now = iter([0.0, 10.0, 50.0, 50.0, 60.0, 90.0])
    clock = Clock(100, {}, lambda: next(now))
    assert clock.expected("npo", 0) == 0  # nothing is known: it is begun
    clock.lap("npo", 0, begun=0.0)  # 10 s, its compiling included
    assert clock.left == 50
    assert clock.expected("rmu", 0) == 10  # new, as dear as the dearest first
    clock.lap("npo", 1, begun=46.0)  # 4 s
    assert clock.expected("npo", 2) == 4
    assert clock.expected("rmu", 0) == 10
    assert clock.expected("npo", 1) == 0  # done
    clock.lap("npo", 0, begun=59.9)  # read again
    assert clock.took == {"npo": {"0": 10.0, "1": 4.0}}


def test_without_time_what_is_done_is_read_and_nothing_begun():
    clock = Clock(5, {"npo": {"0": 30.0}}, iter([0.0, *[9.0] * 9]).__next__)
    assert clock.left == -4
    assert clock.fits("npo", 0)
    assert not clock.fits("npo", 1) and not clock.fits("rmu", 0)
    assert Clock(40, {"npo": {"0": 30.0}}, lambda: 0.0).fits("rmu", 0)
    assert not Clock(20, {"npo": {"0": 30.0}}, lambda: 0.0).fits("npo", 1)


def test_seconds_are_operations_by_rate_and_what_is_beside():
    row = expected.Row("evaluate", times=3, operations=4e12, aside=0.5)
    assert row.seconds(2e12) == 3 * (2 + 0.5)
    table = expected.table([row, row], 2e12)
    assert table.title == "at 2 TFLOP/s: 15 s"
    assert [next(iter(column.cells)) for column in table.columns] == [
        *("evaluate", "3", "4.0", "0.5", "8"),
    ]


# --- the whole study --------------------------------------------------------------

SIZES = (
    *("--divide", "50", "--seeds", "0", "1", "--dtype", "float32"),
    *("--train.epochs", "1", "--evaluation.max-new-tokens", "2"),
    *("--evaluation.max-rows", "100", "--evaluation.bootstrap", "5"),
    *("--budget.batch-size", "8", "--methods", "grad_diff", "npo"),
)


@pytest.fixture
def given(data_dir, tmp_path):
    """Options for a tiny random Llama, written as a pretrained one is."""
    run = Tofu(
        data_dir=data_dir / "tofu",
        split="forget01",
        max_retain=40,
        model_size=ModelConfig(16, 32, 1, 1, 1, 512),
    )
    task = LanguageDomain.of(run).task
    handed_back.write(task, tmp_path / "llama", task.init_params(0))
    return ("--base-model", tmp_path / "llama", "--data-dir", data_dir / "tofu")


def started(folder, *more):
    words = ("forget10", "--output-dir", folder / "run", *SIZES, *more)
    output = ("--output", folder / "found.json")
    return benchmark.main([*map(str, (*words, *output))])


def read(folder):
    return published.load(folder / "found.json", published.RUN)


def test_what_it_needs_is_said(tmp_path, capsys):
    assert started(tmp_path) == 2
    assert "give --base-model and --data-dir, or a --pack" in capsys.readouterr().err
    assert started(tmp_path, "--pack", tmp_path / "none") == 2
    assert "no folder that --prepare has written" in capsys.readouterr().err
    more = ("--base-model", "b", "--data-dir", "d", "--tune", "3")
    assert started(tmp_path, *more) == 2
    assert "leave out --model, --retain-model, --tune" in capsys.readouterr().err
    (tmp_path / "found.json").write_text("[]")
    assert started(tmp_path) == 2
    assert "no result of this study" in capsys.readouterr().err


@pytest.mark.slow
def test_packed_carried_cut_off_and_resumed(given, tmp_path, monkeypatch, capsys):
    pack = tmp_path / "pack"
    here, there, whole = tmp_path / "here", tmp_path / "there", tmp_path / "whole"
    assert started(here, *given, "--prepare", pack, "--part-mib", "1") == 0
    assert (pack / "part01").is_file() and not (here / "found.json").exists()

    # On the other machine no text is tokenised again, and power fails in the middle.
    def lost(self, folder, model, reference, *tell):
        if (model.name, model.seed) == ("npo", 0):
            raise SystemError("power")
        return evaluate(self, folder, model, reference, *tell)

    evaluate = LanguageDomain.evaluate
    encode = "ofmu_jax.data.language.prompts.encode"
    with monkeypatch.context() as patch:
        patch.setattr(LanguageDomain, "evaluate", lost)
        patch.setattr(encode, lambda *_, **__: pytest.fail("encoded again"))
        with pytest.raises(SystemError):
            started(there, "--pack", pack)
    found = read(there)
    done = [(row["method"], row["seed"]) for row in found["models"]]
    assert done[2:] == [("grad_diff", 0), ("grad_diff", 1)]
    assert found["study"]["not_run"] == ["npo, seed 0", "npo, seed 1"]
    took = found["study"]["took"]["grad_diff"]
    capsys.readouterr()

    # No time is left for a method: what was done is there, and it says what is not.
    assert started(there, "--pack", pack, "--seconds", "1e-9") == 0
    assert "2 of 4 models were not made, the first is npo" in capsys.readouterr().err
    assert read(there)["models"] == found["models"]

    # In time: what was done is read, without its parameters, and the rest is made.
    restored = []
    restore = checkpoint.restore
    monkeypatch.setattr(
        pipeline.checkpoint,
        "restore",
        lambda folder, like: restored.append(folder) or restore(folder, like),
    )
    assert started(there, "--pack", pack) == 0
    names = [folder.parents[1].parent.name for folder in restored]
    assert names == ["retrained", "target", "npo", "npo"]
    resumed = read(there)
    assert resumed["study"]["not_run"] == []
    assert resumed["study"]["took"]["grad_diff"] == took
    page = (there / "found.md").read_text()
    assert "NPO" in page and "Target" in page

    # At a stretch, without a pack, the same.
    assert started(whole, *given) == 0
    metrics = lambda found: [row["metrics"] for row in found["models"]]
    assert metrics(read(whole)) == metrics(resumed)
    plan = json.loads((whole / "found.json").read_text())["study"]["plan"]["work"]
    assert {row["work"]: row["times"] for row in plan}["evaluate"] == 6
