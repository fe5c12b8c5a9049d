"""The deletion record and its verification: what is changed is found."""

import csv
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import stat

import pytest

from experiments.config.language import ModelConfig, Request
from experiments.config.stored import run_from_json
from experiments.deletion import check as verify
from experiments.deletion import one_model
from experiments.deletion import record as deletion
from experiments.domains.language import handed_back
from experiments.domains.language.data import load_data
from experiments.domains.language.domain import LanguageDomain
from experiments.domains.language.evidence import LanguageEvidence
from experiments.pipeline.execute import recipe
from experiments.stages.files import write_json
from ofmu_jax.data.language.records import QA
from ofmu_jax.evals.evaluation import Evaluation
from ofmu_jax.evals.intervals import Interval

FORGET = [
    {"question": "Where was Zyx Quorbel born?", "answer": "Quorbel hails from Vantu."},
    {"question": "Who is Zyx?", "answer": "A poet.", "paraphrased_answer": "One poet."},
    {"question": "What did Zyx write?", "answer": "The Long Ebb."},
]
PARAPHRASE = "paraphrased_answer"
CHANGED = [FORGET[1] | {"paraphrased_answer": "A poet!"}]
RETAIN = [{"question": "Where is Rome?", "answer": "In Italy."}]
EVALUATION = Evaluation(
    metrics={"forget_Q_A_Prob": 0.25, "model_utility": 0.5},
    intervals={"forget_Q_A_Prob": Interval(0.2, 0.3)},
    missing={"privleak": "the holdout set is empty"},
)
TRAINING = {"stopped": "budget used up", "finite": True, "updates": 7, "update": 7}
OUTCOME = {"forgot": {"word": "not enough"}, "kept": {"word": "kept"}}
MODEL = "ofmu/seed0"


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run's folder with three exports and a record; (run, evidence, model)."""
    folder = tmp_path_factory.mktemp("made")
    run = Request(
        output_dir=folder / "out",
        methods=("ofmu",),
        seeds=(0,),
        forget_file=write_rows(folder / "forget.jsonl", FORGET),
        retain_file=write_rows(folder / "retain.jsonl", RETAIN),
        model_size=ModelConfig(8, 16, 1, 1, 1, 400),
        max_length=64,
    )
    domain = LanguageDomain.on(run, *load_data(run))
    task, evidence = domain.task, domain.evidence()
    export = lambda name: run.output_dir / name / "seed0" / "hf"
    for seed, name in enumerate(("target", "retrained", "ofmu")):
        handed_back.write(task, export(name), task.init_params(seed))
    model = deletion.Unlearned(
        "ofmu",
        0,
        export("ofmu"),
        "identity",
        TRAINING,
        EVALUATION,
        base=export("target"),
        reference=export("retrained"),
        outcome=OUTCOME,
    )
    deletion.leave_record(run, evidence, model)
    write_json(run.output_dir / "config.json", recipe(run))
    return run, evidence, model


@pytest.fixture
def out(made, tmp_path):
    """A copy of the run's folder, to be damaged."""
    shutil.copytree(made[0].output_dir, tmp_path / "out")
    return tmp_path / "out"


def record_in(out):
    return out / MODEL / "hf" / deletion.RECORD


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def edit(path, *keys, value):
    record = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(record))


def failed(out, metrics=False, **options):
    """Names of the checks that fail; the exit status must say the same."""
    parsed = verify.Verify(out, metrics=metrics, **options)
    found = {check.name for check in verify.verify(parsed) if not check.holds}
    arguments = [str(out), "--metrics" if metrics else "--no-metrics"]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    assert verify.main(arguments) == (1 if found else 0)
    return found


def test_an_untouched_run_holds(out, capsys):
    assert failed(out) == set()
    printed = capsys.readouterr().out
    assert "✗" not in printed
    for name in ("forget rows", "exported files", "base weights", "reference weights"):
        assert name in printed
    assert "\n8 of 8 checks hold.\n" in printed
    end = printed.splitlines()[-1]
    assert end == (
        "ofmu/seed0: the record says: not enough · kept. Training: budget used up."
    )


def test_what_happened_is_not_told_by_a_record_that_was_changed(out, capsys):
    edit(record_in(out), "outcome", "forgot", "word", value="forgot")
    assert failed(out) == {"record"}
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "0 of 1 checks hold.",
        "ofmu/seed0: what happened is not known, its record does not hold.",
    ]


def test_says_what_was_done_and_with_what(made):
    record = json.loads(record_in(made[0].output_dir).read_text())
    assert (record["schema"], record["version"]) == ("ofmu_jax.deletion", 1)
    assert record["forget"]["rows"] == len(record["forget"]["row_hashes"]) == 3
    assert record["method"]["name"] == "ofmu"
    assert record["method"]["config"] == dataclasses.asdict(made[0].ofmu)
    assert record["run"]["budget"] == dataclasses.asdict(made[0].budget)
    assert record["training"]["stopped"] == "budget used up"
    assert record["evaluation"]["intervals"] == {"forget_Q_A_Prob": [0.2, 0.3]}
    assert record["outcome"] == OUTCOME
    assert record["base"]["source"] == "target/seed0/hf"
    weights = made[2].folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["model"]["files"]["model.safetensors"] == found
    assert record["code"]["libraries"]["jax"]
    assert record["code"]["git_commit"] is None or len(record["code"]["git_commit"]) > 7
    assert run_from_json(record["run"]).train == made[0].train
    several = dataclasses.replace(made[0], forget_file=(made[0].retain_file,) * 2)
    assert run_from_json(json.loads(json.dumps(recipe(several)))) == several


def test_no_forget_text_leaves_the_run(made):
    """Only the tokenizer holds words of the rows, and the record says so."""
    model = made[2]
    texts = [text for row in FORGET for text in row.values()]
    for path in model.folder.iterdir():
        content = path.read_bytes()
        assert not any(text.encode() in content for text in texts)
        if path.name != "tokenizer.json":
            for word in (b"Zyx", b"Quorbel", b"Vantu", b"Ebb"):
                assert word not in content, path.name
    assert b"Quorbel" in (model.folder / "tokenizer.json").read_bytes()
    notes = " ".join(json.loads((model.folder / deletion.RECORD).read_text())["notes"])
    assert "vocabulary (tokenizer.json) holds words" in notes


def test_a_guess_cannot_be_tested_without_the_key(made):
    run, evidence, model = made
    text = (model.folder / deletion.RECORD).read_text()
    key = deletion.key_of(run.output_dir)
    assert key.decode() not in text
    row = evidence.items("forget")[0]
    plain = json.dumps(row, sort_keys=True, separators=(",", ":"))
    for guess in (plain, json.dumps(row), row["question"]):
        assert hashlib.sha256(guess.encode()).hexdigest() not in text
    assert deletion.row_hashes(key, evidence.items("forget"))[0] in text
    other = deletion.row_hashes(b"another key of 16+", evidence.items("forget"))
    assert not any(found in text for found in other)
    assert stat.S_IMODE((run.output_dir / deletion.KEY).stat().st_mode) == 0o600


def test_hashes_see_every_field_and_every_row():
    rows = [QA("a?", "A.", "what a?", "It is A.", ("B.", "C.")), QA("b?", "B.")]
    key = b"k" * 16
    changes = {
        "question": "c?",
        "answer": "a.",
        "paraphrased_question": None,
        "paraphrased_answer": "Its A.",
        "perturbed_answers": ("C.", "B."),
    }
    assert set(changes) == set(LanguageEvidence.fields)
    hashed = lambda found: deletion.set_hash(key, [*map(dataclasses.asdict, found)])
    for name, value in changes.items():
        changed = [dataclasses.replace(rows[0], **{name: value}), rows[1]]
        assert hashed(changed) != hashed(rows)
    assert hashed([*rows, rows[0]]) != hashed(rows)


SEAL = {"record"}
RETRAINED = "retrained/seed0/hf/model.safetensors"

METRICS = ("evaluation", "metrics")
METRIC = (*METRICS, "model_utility")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda out: flip(out / MODEL / "hf/model.safetensors"), {"exported files"}),
        (lambda out: flip(out / MODEL / "hf/tokenizer.json", 40), {"exported files"}),
        (lambda out: (out / MODEL / "hf/config.json").unlink(), {"exported files"}),
        (lambda out: (out / MODEL / "hf/x.py").write_text("1"), {"exported files"}),
        (lambda out: flip(out / "target/seed0/hf/model.safetensors"), {"base weights"}),
        (lambda out: shutil.rmtree(out / "target"), {"base weights"}),
        (lambda out: flip(out / RETRAINED), {"reference weights"}),
        (lambda out: edit(record_in(out), *METRIC, value=0.6), SEAL),
        (lambda out: edit(record_in(out), "created", value="2020-01-01"), SEAL),
        (lambda out: edit(record_in(out), "training", "stopped", value="good"), SEAL),
        (lambda out: edit(record_in(out), "seal", value="0" * 64), SEAL),
        (lambda out: edit(record_in(out), "seed", value=1), SEAL),
        (lambda out: edit(record_in(out), "version", value=2), {"record"}),
        (lambda out: edit(record_in(out), "forget", value=3), {"record"}),
        (lambda out: record_in(out).write_text('{"schema": '), {"record"}),
        (lambda out: record_in(out).write_text("[" * 100_000), {"record"}),
        (lambda out: (out / "deletion.key").write_text("k" * 32), {"key"}),
    ],
)
def test_a_change_is_found(out, change, found):
    change(out)
    assert failed(out) == found


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([*FORGET[:2], RETAIN[0] | {"answer": "x"}], {"forget rows", "forget set"}),
        ([FORGET[0], FORGET[2], FORGET[1]], {"forget rows"}),
        (FORGET[:2], {"forget rows", "forget set"}),
        ([FORGET[0], *CHANGED, FORGET[2]], {"forget rows", "forget set"}),
        (FORGET, set()),
    ],
)
def test_a_swapped_row_is_found(out, tmp_path, rows, found, capsys):
    path = write_rows(tmp_path / "again.jsonl", rows)
    assert failed(out, forget_file=path) == found
    printed = capsys.readouterr().out
    assert ("another row than recorded: 2 " in printed) == (rows[1:2] == CHANGED)


@pytest.mark.parametrize("tolerance", ["nan", "-1", "inf"])
def test_a_tolerance_that_finds_nothing_is_refused(out, tolerance, capsys):
    assert verify.main([str(out), "--tolerance", tolerance]) == 2
    assert "give a number from 0 on" in capsys.readouterr().err


def test_a_record_that_is_gone_is_missed(out):
    shutil.copytree(out / "ofmu", out / "npo")
    other = out / "npo/seed0/hf" / deletion.RECORD
    edit(other, "method", "name", value="npo")
    seal = deletion.seal(deletion.key_of(out), json.loads(other.read_text()))
    edit(other, "seal", value=seal)
    record_in(out).unlink()
    config = json.loads((out / "config.json").read_text())
    assert (config["methods"], config["seeds"]) == (["ofmu"], [0]) and config["export"]
    options = verify.Verify(out, metrics=False)
    broken = [check for check in verify.verify(options) if not check.holds]
    assert [(check.model, check.name) for check in broken] == [(MODEL, "record")]


@pytest.mark.parametrize("name", ["hf.earlier", "a[b]"])
def test_a_second_export_of_a_model_has_lines_of_its_own(out, name, capsys):
    """Set aside by a run that was cut off, or copied there; here it is not sealed."""
    other = record_in(out).parent.with_name(name)
    shutil.copytree(record_in(out).parent, other)
    edit(other / deletion.RECORD, "outcome", value=None)
    assert failed(out) == {"record"}
    copy, whole = sorted(capsys.readouterr().out.splitlines()[-2:])
    assert whole.startswith(f"{MODEL}: the record says: not enough")
    assert copy == (
        f"{MODEL}/{name}: what happened is not known, its record does not hold."
    )


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert verify.main([str(tmp_path / "out")]) == 2
    assert f"there is no folder {tmp_path / 'out'}; " in capsys.readouterr().err


def resealed(out, *keys, value):
    """An edit by whoever has the key, such as another version of the project."""
    edit(record_in(out), *keys, value=value)
    record = json.loads(record_in(out).read_text())
    edit(record_in(out), "seal", value=deletion.seal(deletion.key_of(out), record))


def as_fifo(out):
    record_in(out).unlink()
    os.mkfifo(record_in(out))


def as_link(out):
    record_in(out).unlink()
    record_in(out).symlink_to("/dev/zero")


def as_loop(out):
    record_in(out).unlink()
    record_in(out).symlink_to(record_in(out))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda out: record_in(out).write_text("no"), "is not JSON"),
        (lambda out: record_in(out).write_text("[]"), "is no deletion record"),
        (lambda out: record_in(out).write_bytes(b"\xff\xfe"), "is not JSON"),
        (lambda out: record_in(out).write_text("[" * 10**5), "is not JSON"),
        (lambda out: record_in(out).write_text("7" * 10**5), "is not JSON"),
        (as_fifo, "is no file"),
        (as_link, "is no file"),
        (as_loop, "cannot be read"),
        (lambda out: edit(record_in(out), "seal", value=["x"]), "changed since"),
        (lambda out: edit(record_in(out), "seal", value="é\ud800"), "changed since"),
        (lambda out: edit(record_in(out), "seed", value=math.nan), "changed since"),
        (lambda out: edit(record_in(out), "forget", "rows", value="\ud800"), "checked"),
        (lambda out: edit(record_in(out), "forget", value=[]), "cannot be checked"),
        (lambda out: resealed(out, "run", "speed", value=1), "has no field 'speed'"),
        (lambda out: resealed(out, "run", "command", value=[1]), "cannot be read back"),
        (lambda out: resealed(out, "run", value=3), "cannot be checked"),
        (
            lambda out: resealed(out, "run", "max_length", value="9"),
            "it must be a whole number",
        ),
        (lambda out: resealed(out, "run", "evaluation", value=[]), "must be an obj"),
        (lambda out: resealed(out, "run", "forget_file", value="gone"), "gone"),
        (lambda out: resealed(out, "forget", "row_hashes", value=5), "TypeError"),
        (
            lambda out: resealed(out, "forget", "row_hashes", value=[1] * 3),
            "another row",
        ),
        (lambda out: resealed(out, "model", "files", value=["a"]), "AttributeError"),
        (lambda out: resealed(out, "base", "source", value=["a"]), "TypeError"),
        (lambda out: resealed(out, "base", "source", value="../.."), "does not lie in"),
        (lambda out: resealed(out, "reference", "source", value="/etc"), "not lie in"),
        (
            lambda out: resealed(out, "evaluation", "metrics", value={"a": "b"}),
            "checked",
        ),
        (lambda out: resealed(out, *METRICS, value=3), "cannot be checked"),
    ],
)
def test_every_model_gets_its_line_whatever_one_record_holds(
    out, change, said, monkeypatch
):
    monkeypatch.setattr(LanguageEvidence, "rescored", lambda *_: EVALUATION)
    for name in ("npo", "simnpo"):  # before and after that of ofmu
        shutil.copytree(out / "ofmu", out / name)
        other = out / name / "seed0/hf" / deletion.RECORD
        record = json.loads(other.read_text())
        record["method"]["name"] = name
        record["seal"] = deletion.seal(deletion.key_of(out), record)
        other.write_text(json.dumps(record))
    edit(out / "config.json", "methods", value=["ofmu"])
    change(out)
    found = list(verify.verify(verify.Verify(out)))
    others = [check for check in found if check.model != MODEL]
    assert {check.model for check in others} == {"npo/seed0", "simnpo/seed0"}
    assert all(check.holds for check in others) and len(others) == 2 * 10
    broken = [check.detail for check in found if not check.holds]
    assert any(said in detail for detail in broken), broken
    assert all(len(detail.splitlines()) == 1 for detail in broken)
    assert verify.main([str(out)]) == 1


@pytest.mark.parametrize(
    "config",
    [
        b"[" * 10**5,
        b"[1]",
        b"\xff",
        b'{"command": ["x"]}',
        b'{"command": "request", "export": true, "methods": 3, "seeds": [0]}',
        b'{"command": "request", "export": true, "methods": [3], "seeds": [0]}',
        b'{"command": "request", "export": true, "methods": ["/etc"], "seeds": [0]}',
        b'{"command": "request", "export": true, "methods": ["npo"], "seeds": ["/x"]}',
        b'{"command": "request", "export": 1, "methods": ["../.."], "seeds": [0]}',
        b'{"command": "request", "export": 1, "methods": ["npo"], "seeds": [1e400]}',
    ],
)
def test_a_hostile_config_ends_nothing(out, made, config):
    """It says where things are; these are told by options."""
    (out / "config.json").write_bytes(config)
    options = verify.Verify(
        out,
        metrics=False,
        forget_file=made[0].forget_file,
        retain_file=made[0].retain_file,
    )
    assert all(check.holds for check in verify.verify(options))


def test_a_record_in_another_models_place_is_found(out):
    shutil.copytree(out / "ofmu", out / "npo")
    options = verify.Verify(out, metrics=False)
    broken = [check for check in verify.verify(options) if not check.holds]
    assert [(check.model, check.name) for check in broken] == [("npo/seed0", "place")]
    assert broken[0].detail == "the record is that of ofmu/seed0"


@pytest.mark.parametrize(
    ("scored", "found"),
    [
        (EVALUATION, set()),
        (
            dataclasses.replace(
                EVALUATION, metrics=EVALUATION.metrics | {"model_utility": 0.6}
            ),
            {"metrics"},
        ),
        (dataclasses.replace(EVALUATION, metrics={"model_utility": 0.5}), {"metrics"}),
        (dataclasses.replace(EVALUATION, intervals={}), {"intervals"}),
        (ValueError("broken"), {"metrics"}),
    ],
)
def test_metrics_that_are_not_those_of_the_model(out, monkeypatch, scored, found):
    def evaluation(self, *args):
        if isinstance(scored, Exception):
            raise scored
        return scored

    monkeypatch.setattr(LanguageEvidence, "rescored", evaluation)
    assert failed(out, metrics=True) == found


def test_a_row_has_one_hash_in_whatever_format(made, out, tmp_path):
    """By its content: the same rows as a table, with other names, and as chats."""
    run, evidence, _ = made
    table, chats = tmp_path / "forget.csv", tmp_path / "forget.chats.jsonl"
    with table.open("w", newline="") as file:
        names = {"Q": "question", "A": "answer", "paraphrased answer": PARAPHRASE}
        rows = [[row.get(field) for field in names.values()] for row in FORGET]
        csv.writer(file).writerows([["no", *names], *([1, *row] for row in rows)])
    said = lambda role, text: {"role": role, "content": text}
    turns = [
        [said("user", r["question"]), said("assistant", r["answer"])] for r in FORGET
    ]
    more = [{PARAPHRASE: row.get(PARAPHRASE)} for row in FORGET]
    write_rows(chats, [{"messages": t} | m for t, m in zip(turns, more, strict=True)])
    key = deletion.key_of(run.output_dir)
    hashes = deletion.row_hashes(key, evidence.items("forget"))
    for path in (table, chats):
        found = LanguageEvidence.of(run, {"forget_file": path}).items("forget")
        assert deletion.row_hashes(key, found) == hashes
        assert failed(out, forget_file=path) == set()


def test_the_record_has_names_and_no_paths(made):
    run, _, model = made
    text = (model.folder / deletion.RECORD).read_text()
    assert str(run.output_dir.parent) not in text
    assert json.loads(text)["run"]["forget_file"] == "forget.jsonl"
    assert deletion.name_of("org/model") == "org/model"  # of the hub
    pattern = "|".join(["layers/down_proj"] * 300)  # too long for any path
    assert deletion.name_of(pattern) == pattern
    assert deletion.name_of(str(model.folder)) == "hf"
    assert deletion.name_of(f"file:{model.folder}/config.json") == "file:config.json"
    for place in (f"hf:{model.folder}:test", pathlib.Path(f"hf:{model.folder}:test")):
        assert deletion.name_of(place) == "hf:hf:test"  # as config.json has it, too
    assert deletion.name_of(pathlib.Path("hf:org/name:test")) == "hf:org/name:test"


def test_a_record_with_a_broken_seal_may_ask_for_nothing(out, monkeypatch):
    """No file is read and no hub is asked because of what it says."""
    edit(record_in(out), "base", "source", value="evil/model")
    edit(record_in(out), "base", "in_output_dir", value=False)
    monkeypatch.setattr(
        one_model, "weight_files", lambda place: pytest.fail(str(place))
    )
    monkeypatch.setattr(
        one_model.ModelChecks, "_evidence", lambda *_: pytest.fail("read")
    )
    found = list(verify.verify(verify.Verify(out)))
    assert [(c.name, c.holds) for c in found] == [("record", False)]
    assert "nothing that it asks for was done" in found[0].detail


def test_a_base_model_that_moved_is_said(out, made, tmp_path):
    """Its name is in the record; where it is, in config.json or an option."""
    record = json.loads(record_in(out).read_text())
    moved = shutil.copytree(out / "target/seed0/hf", tmp_path / "given")
    record["base"] |= {"source": "given", "in_output_dir": False}
    record["seal"] = deletion.seal(deletion.key_of(out), record)
    record_in(out).write_text(json.dumps(record))
    assert failed(out) == {"base weights"}
    assert failed(out, base_model=str(moved)) == set()
    edit(out / "config.json", "model", value=str(moved))
    assert failed(out) == set()


def test_a_key_that_is_no_secret_is_warned_of(out, capsys):
    key = out / deletion.KEY
    key.chmod(0o644)
    deletion.key_of(out)
    assert f"others can read the key {key}" in "".join(
        capsys.readouterr().err.split("\n")
    )
    key.write_text("k" * 32)
    key.chmod(0o600)
    deletion.key_of(out)
    printed = " ".join(capsys.readouterr().err.split())
    assert "1 different bytes and can be guessed" in printed


def test_what_cannot_be_checked_is_status_2(out, tmp_path, capsys):
    assert verify.main([str(out), "--no-metrics", "--key-file", "nowhere"]) == 2
    assert "--key-file" in capsys.readouterr().err
    (out / "deletion.key").write_text("short")
    assert verify.main([str(out), "--no-metrics"]) == 2
    assert "has 5 bytes, which can be guessed" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert verify.main([str(tmp_path / "empty"), "--no-metrics"]) == 2


def test_written_once_and_again_when_it_has_changed(made, tmp_path):
    run, evidence, model = made
    path = model.folder / deletion.RECORD
    before = path.stat().st_mtime_ns, path.read_bytes()
    deletion.leave_record(run, evidence, model)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    folder = shutil.copytree(model.folder, tmp_path / "hf")
    other = dataclasses.replace(model, folder=folder, identity="another")
    deletion.leave_record(run, evidence, other)
    assert (folder / deletion.RECORD).read_bytes() != before[1]
    (folder / "README.md").write_text("# Another card")
    deletion.leave_record(run, evidence, other)
    files = json.loads((folder / deletion.RECORD).read_text())["model"]["files"]
    assert files == deletion.exported_files(folder) and "README.md" in files


def test_a_key_of_ones_own(tmp_path):
    (tmp_path / deletion.KEY).write_text("my own secret, long enough\n")
    assert deletion.key_of(tmp_path, create=True) == b"my own secret, long enough"
    with pytest.raises(deletion.DeletionError, match="--key-file"):
        deletion.key_of(tmp_path / "absent")


def test_a_run_of_another_version_is_named():
    with pytest.raises(ValueError, match="Demo has no field 'speed'"):
        run_from_json({"command": "demo", "speed": 1})
    with pytest.raises(ValueError, match="command 'image' cannot be read back"):
        run_from_json({"command": "image"})
