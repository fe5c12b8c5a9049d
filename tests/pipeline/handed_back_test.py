"""A request hands back the folder that was given, with other weights.

Only the weights, the record and the model card differ; of the weights, the numbers.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil

import ml_dtypes
import pytest
import real_folders
import safetensors.numpy
import schemas
from hubs import Hub
from huggingface_hub import ModelCard

from experiments.config.refuse import check_run
from experiments.deletion import check
from experiments.pipeline import hub
from experiments.pipeline.execute import execute, recipe
from experiments.run import main, parse

FORGET = [("Where was Ada born?", "In Lund."), ("Who is Ada?", "A writer.")]
RETAIN = [("Where is Rome?", "In Italy."), ("Who is Bo?", "A painter.")]
METHOD = "grad_diff"


def words(folder, given):
    """The command on a model folder."""
    forget = real_folders.rows(folder / "forget.jsonl", *FORGET)
    retain = real_folders.rows(folder / "retain.jsonl", *RETAIN)
    words = f"""request --model {given} --forget-file {forget} --retain-file {retain}
        --output-dir {folder / "out"} --methods {METHOD} --seeds 0 --max-length 128
        --budget.gradient-evaluations 4 --budget.batch-size 2 --budget.checks 1
        --budget.forget-target none --evaluation.max-new-tokens 2
        --evaluation.bootstrap 4 --evaluation.batch-size 2
        --grad-diff.learning-rate 1e-2"""
    return words.split()


def run_request(folder, given):
    """Runs the command on a model folder; the exports of the target and the method."""
    out = folder / "out"
    assert main(words(folder, given)) in (0, 3)  # random weights know nothing
    return out / "target/seed0/hf", out / METHOD / "seed0/hf"


def contents(folder, *without):
    """Bytes of the files that are not weights; the index is no weight."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".safetensors" and path.name not in without
    }


def tensors(folder):
    """(file, name) -> tensor."""
    return {
        (path.name, name): tensor
        for path in folder.glob("*.safetensors")
        for name, tensor in safetensors.numpy.load_file(path).items()
    }


QUOTING = """---
license: apache-2.0
language:
- en
widget:
- text: Where was Ada born?
model-index:
- name: another model
  results: []
---

# Qwen-like

Ask it, say, where was Ada
born? It knows.

A *tiny* model.
"""  # whose card is not fit for what is made of it
QWEN = {"README.md", "LICENSE", ".gitattributes", "deletion.json", "config.json"}
QWEN |= {"generation_config.json", "tokenizer.json", "tokenizer_config.json"}
QWEN |= {"vocab.json", "merges.txt", "model.safetensors"}
SLOW = pytest.mark.slow  # the same once more, for other families
NAMES = ["qwen", *(pytest.param(name, marks=SLOW) for name in ("llama3", "mistral"))]


@pytest.fixture(scope="module", params=NAMES)
def handed(request, tmp_path_factory):
    """(the folder given, the target's, the unlearned model's), after a request."""
    folder = tmp_path_factory.mktemp(request.param)
    given = real_folders.FOLDERS[request.param](folder / "given")
    if request.param == "qwen":
        (given / "README.md").write_text(QUOTING)
    return given, *run_request(folder, given)


def test_only_weights_record_and_card_differ(handed):
    given, target, unlearned = handed
    kept = () if "Ada" not in (given / "README.md").read_text() else ("README.md",)
    assert contents(target, *kept) == contents(given, *kept)  # it was given: all of it
    expected = contents(given, "README.md")
    assert contents(unlearned, "README.md", "deletion.json") == expected
    assert {"config.json", "generation_config.json", "tokenizer.json"} <= set(expected)

    before, same, after = map(tensors, (given, target, unlearned))
    assert before.keys() == same.keys() == after.keys()
    for name, tensor in before.items():
        assert real_folders.same_bytes(same[name], tensor), name
        assert after[name].dtype == tensor.dtype == ml_dtypes.bfloat16, name
        assert after[name].shape == tensor.shape, name
    assert any(
        not real_folders.same_bytes(after[name], tensor)
        for name, tensor in before.items()
    )


def test_card_says_what_was_done_and_keeps_what_was_said(handed):
    _, target, unlearned = handed
    card = ModelCard.load(unlearned / "README.md")
    data, text = card.data.to_dict(), card.text
    assert (data["license"], data["language"]) == ("apache-2.0", ["en"])
    assert {METHOD, "machine-unlearning"} <= set(data["tags"])
    assert (
        "base_model" not in data and "widget" not in data
    )  # no folder of this machine
    record = json.loads((unlearned / "deletion.json").read_text())
    measured = record["evaluation"]["metrics"]
    assert card.data.eval_results
    for result in card.data.eval_results:
        assert result.metric_value == measured[result.metric_type]
        ends = record["evaluation"]["intervals"][result.metric_type]
        assert result.metric_args == {"interval": ends, "confidence": 0.95}
    for part in ("nothing to forget", "2 of 4 items", '"learning_rate": 0.01'):
        assert part in text
    assert "names no licence" not in text
    assert text.endswith("-like\n\nA *tiny* model.\n")
    for folder in (target, unlearned):
        squeezed = " ".join((folder / "README.md").read_text().split()).lower()
        assert not any(question.lower() in squeezed for question, _ in FORGET)


def test_record_says_dtypes_readers_and_rounding(handed):
    _, _, unlearned = handed
    record = json.loads((unlearned / "deletion.json").read_text())
    model = record["model"]
    assert model["dtypes"] == {"bfloat16": len(tensors(unlearned))}
    assert model["readers"]["limits"] == []
    assert "transformers 4.51.3" in model["readers"]["tested_with"]
    assert model["files"].keys() == {
        path.name for path in unlearned.iterdir() if path.name != "deletion.json"
    }
    for name, found in model["files"].items():
        assert hashlib.sha256((unlearned / name).read_bytes()).hexdigest() == found
    assert any("rounded" in note for note in record["notes"])
    found = schemas.check(unlearned.parents[2])
    assert found == {"config.json": 1, "report.json": 1, "deletion.json": 1}


def test_what_was_scored_is_what_was_written(handed, capsys):
    """The export gives the metrics again, to more digits than bfloat16 has."""
    out = handed[2].parents[2]
    assert check.main([str(out), "--tolerance", "1e-5"]) == 0
    assert "metrics" in capsys.readouterr().out


@pytest.fixture
def pushing(handed, monkeypatch):
    """(the run that asks for a push, the unlearned export, a function that pushes)."""
    given, _, unlearned = handed
    command = words(given.parent, given)
    run = parse([*command, "--push-to-hub", "forgotten"])
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")

    def pushed(api, export=unlearned, failed=False, run=run):
        monkeypatch.setattr(hub, "HfApi", lambda: api)
        hub.push(run, export, failed)
        return api.sent

    return run, unlearned, pushed


def test_what_is_pushed_is_the_model_its_card_and_its_record(pushing, tmp_path, capsys):
    run, unlearned, pushed = pushing
    check_run(run)
    api = Hub(files=[".gitattributes", "deletion.json", "model-00001.safetensors"])
    name, operations = pushed(api)
    assert api.made == [("forgotten", True)] and name == "me/forgotten"
    added = {o.path_in_repo: o for o in operations if hasattr(o, "path_or_fileobj")}
    assert added.keys() == {path.name for path in unlearned.iterdir()}
    assert added.keys() == QWEN or unlearned.parents[3].name[:4] != "qwen"
    for name, operation in added.items():
        assert pathlib.Path(operation.path_or_fileobj) == unlearned / name
    others = {o.path_in_repo for o in operations} - added.keys()
    assert others == {"model-00001.safetensors"}  # of an earlier push
    # A file of the given folder that quotes a row stays behind, and a changed one.
    copy = shutil.copytree(unlearned, tmp_path / "hf")
    (copy / "notes.txt").write_text("I ask: where was Ada born?")
    with pytest.raises(ValueError, match="are not those of its record"):
        pushed(Hub(), copy)
    record = json.loads((copy / "deletion.json").read_text())
    digest = hashlib.sha256((copy / "notes.txt").read_bytes()).hexdigest()
    record["model"]["files"]["notes.txt"] = digest
    (copy / "deletion.json").write_text(json.dumps(record))
    sent = {o.path_in_repo for o in pushed(Hub(), copy)[1]}
    assert sent == added.keys()
    assert "quotes a forget row" in " ".join(capsys.readouterr().err.split())


def test_nothing_is_pushed_unasked_or_in_vain(pushing):
    run, _, pushed = pushing
    assert pushed(Hub(), failed=True) is None
    assert pushed(Hub(), export=None) is None
    assert pushed(Hub(), run=dataclasses.replace(run, push_to_hub=None)) is None
    with pytest.raises(ValueError, match="is public; add --push-public"):
        pushed(Hub(private=False))
    with pytest.raises(ValueError, match="holds something else"):
        pushed(Hub(files=["train.csv"]))
    api = Hub()
    api.model_info = lambda name: 1 / 0  # no connection, no permission, …
    with pytest.raises(
        ValueError, match=r"--push-to-hub forgotten: division by zero.$"
    ):
        pushed(api)
    public = dataclasses.replace(run, push_public=True)
    api = Hub(private=False)
    assert pushed(api, run=public) and api.made == [("forgotten", False)]


def test_a_push_that_cannot_be_is_refused_before_anything_is_trained(
    pushing, monkeypatch, tmp_path
):
    run, *_ = pushing
    changes = {
        "pushes one model; give one": {"seeds": (0, 1)},
        "pushes an export, and": {"export": False},
        "--push-to-hub a b: ": {"push_to_hub": "a b"},
        "--push-public is of": {"push_to_hub": None, "push_public": True},
    }
    for message, change in changes.items():
        with pytest.raises(ValueError, match=message):
            check_run(dataclasses.replace(run, **change))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ValueError, match=r"needs a token .* set HF_TOKEN"):
        execute(dataclasses.replace(run, output_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    # What a run left asks for no push, were it run again by it.
    file = tmp_path / "config.json"
    file.write_text(json.dumps(recipe(run)))
    assert run.push_to_hub and parse(["--config", str(file)]).push_to_hub is None


def test_a_finished_run_is_pushed_by_its_command(pushing, monkeypatch):
    run, unlearned, _ = pushing
    api, marks = Hub(), sorted(run.output_dir.rglob("*.stage.json"))
    times = [path.stat().st_mtime_ns for path in marks]
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    execute(run)
    assert api.made == [("forgotten", True)] and api.sent is None  # it did not forget
    monkeypatch.setattr("experiments.pipeline.execute.status", lambda found: 0)
    execute(run)
    assert {pathlib.Path(o.path_or_fileobj).parent for o in api.sent[1]} == {unlearned}
    assert [path.stat().st_mtime_ns for path in marks] == times  # nothing was redone
