"""A request hands back the folder that was given, with other weights.

Only the weights, the record and the model card differ; of the weights, the numbers.
"""

import hashlib
import json

import ml_dtypes
import pytest
import real_folders
import safetensors.numpy
from huggingface_hub import ModelCard

from experiments.deletion import check
from experiments.run import main

FORGET = [("Where was Ada born?", "In Lund."), ("Who is Ada?", "A writer.")]
RETAIN = [("Where is Rome?", "In Italy."), ("Who is Bo?", "A painter.")]
METHOD = "grad_diff"


def run_request(folder, given):
    """Runs the command on a model folder; the exports of the target and the method."""
    out = folder / "out"
    forget = real_folders.rows(folder / "forget.jsonl", *FORGET)
    retain = real_folders.rows(folder / "retain.jsonl", *RETAIN)
    words = f"""request --model {given} --forget-file {forget} --retain-file {retain}
        --output-dir {out} --methods {METHOD} --seeds 0 --max-length 128
        --budget.gradient-evaluations 4 --budget.batch-size 2 --budget.checks 1
        --budget.forget-target none --evaluation.max-new-tokens 2
        --evaluation.bootstrap 4 --evaluation.batch-size 2
        --grad-diff.learning-rate 1e-2"""
    assert main(words.split()) in (0, 3)  # random weights know nothing
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


def test_what_was_scored_is_what_was_written(handed, capsys):
    """The export gives the metrics again, to more digits than bfloat16 has."""
    out = handed[2].parents[2]
    assert check.main([str(out), "--tolerance", "1e-5"]) == 0
    assert "metrics" in capsys.readouterr().out
