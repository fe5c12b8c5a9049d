"""What a run says of the folder that it was given."""

import json
import types

import pytest
import real_folders

from experiments.domains.language import handed_back
from ofmu_jax.models.huggingface.folder import load_pretrained


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", []),  # whatever config.json says
        (
            "bfloat16",
            [
                "The given files are bfloat16: trained parameters are rounded to that, "
                "and then scored and written."
            ],
        ),
    ],
)
def test_rounding_is_said_where_files_are_narrower(tmp_path, dtype, expected):
    folder = real_folders.qwen(tmp_path / "given", dtype)
    task = types.SimpleNamespace(source=folder, config=load_pretrained(folder)[0])
    assert handed_back.rounding(task) == expected
    task.source = None
    assert handed_back.rounding(task) == []


def test_limits_name_what_stays_behind_and_what_4_misreads(tmp_path):
    folder = real_folders.qwen(tmp_path / "given")
    assert handed_back.limits([str(folder)]) == []
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "onnx").mkdir()
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": "TokenizersBackend"}
    path.write_text(json.dumps(settings))
    first, second = handed_back.limits([str(folder)])
    assert f"the files of {folder}, but not onnx/, pytorch_model.bin: " in first
    assert "TokenizersBackend, which transformers 4 does not have" in second
