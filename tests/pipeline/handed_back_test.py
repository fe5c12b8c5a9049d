"""A request hands back the folder that was given, with other weights.

Only the weights, the record and the model card differ; of the weights, the numbers.
"""

import hashlib
import json

import ml_dtypes
import pytest
import real_folders
import safetensors.numpy

from experiments.deletion import check
from experiments.run import main
from ofmu_jax import unlearn

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


SLOW = pytest.mark.slow  # the same once more, for other families
NAMES = ["qwen", *(pytest.param(name, marks=SLOW) for name in ("llama3", "mistral"))]


@pytest.fixture(scope="module", params=NAMES)
def handed(request, tmp_path_factory):
    """(the folder given, the target's, the unlearned model's), after a request."""
    folder = tmp_path_factory.mktemp(request.param)
    given = real_folders.FOLDERS[request.param](folder / "given")
    return given, *run_request(folder, given)


def test_only_weights_record_and_card_differ(handed):
    given, target, unlearned = handed
    assert contents(target) == contents(given)  # the target was given: all of it
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
    given, _, unlearned = handed
    text = (unlearned / "README.md").read_text()
    front, rest = (given / "README.md").read_text().split("\n\n", 1)
    assert text.startswith(f"{front}\n> The weights are not those of the model")
    assert text.endswith(f"\n\n{rest}")
    assert f"changed by {METHOD}" in text


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


def test_one_call_in_python_writes_the_same_model(handed, tmp_path):
    """Bit for bit: the same batches, steps and rounding; the card is another."""
    given, _, unlearned = handed
    rows = lambda pairs: [{"question": q, "answer": a} for q, a in pairs]
    run = unlearn(
        str(given),
        rows(FORGET),
        rows(RETAIN),
        method=METHOD,
        learning_rate=1e-2,
        gradient_evaluations=4,
        batch_size=2,
        checks=1,
        forget_target=None,
        max_length=128,
    )
    run.save_pretrained(tmp_path / "out")
    left = ("README.md", "deletion.json")
    assert contents(tmp_path / "out", *left) == contents(unlearned, *left)
    ours, theirs = tensors(tmp_path / "out"), tensors(unlearned)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert real_folders.same_bytes(ours[name], tensor), name
    found = json.loads((unlearned.parent / "evaluation/evaluation.json").read_text())
    for part in ("forget", "retain"):
        scored = found["metrics"][f"{part}_Q_A_Prob"]
        assert run.metrics["after"][f"{part}_prob"] == pytest.approx(scored, rel=1e-5)
