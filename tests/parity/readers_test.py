"""Every kind of export, read by transformers 4 and 5: the same logits and tokens."""

import os
import pathlib
import subprocess
import sys

import jax
import model_families as families
import numpy as np
import pytest
import reader
import real_folders
import transformers
from packaging.version import Version

from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface.readers import TESTED, problems_in_4
from ofmu_jax.models.llama.model import Llama, init_params

OLD, NEW = TESTED
ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where `make parity` puts the older version, beside the packages of its environment.
PLACE = os.environ.get("TRANSFORMERS4", f"{sys.prefix}/transformers4")


def fresh(folder, name, dtype=None):
    """A model that was trained here: everything is written anew."""
    tensors = families.tensors_of(name)
    given = families.write(folder / "in", families.ALL[name], tensors)
    config, params = huggingface.load_pretrained(given)
    tokenizer = build_tokenizer(reader.TEXTS, 300) if config.vocab_size > 300 else None
    huggingface.save_pretrained(folder / "out", params, config, tokenizer, dtype=dtype)
    return folder / "out"


def with_tokenizer(folder):
    tokenizer = build_tokenizer([real_folders.TEXT, *reader.TEXTS], 400)
    settings = families.ALL["llama3"] | {"vocab_size": len(tokenizer)}
    given = families.write(folder / "in", settings, {})
    config = huggingface.config_from_hf(huggingface.load_config(given))
    params = init_params(config, jax.random.key(0))
    huggingface.save_pretrained(folder / "out", params, config, tokenizer)
    return folder / "out"


def given(folder, name, dtype="bfloat16"):
    """A folder that was given, with other weights."""
    source = real_folders.FOLDERS[name](folder / "in", dtype)
    config, params = huggingface.load_pretrained(source, dtype="float32")
    huggingface.save_pretrained(folder / "out", params, config, source=source)
    return folder / "out"


def loaded(folder, name):
    """A folder that was given, its config and tokenizer written by transformers 5."""
    source = real_folders.FOLDERS[name](folder / "in")
    config, params = huggingface.load_pretrained(source)
    tokenizer = huggingface.load_tokenizer(source)
    hf_config = huggingface.load_config(source)
    huggingface.save_pretrained(folder / "out", params, config, tokenizer, hf_config)
    return folder / "out"


KINDS = {
    **{f"fresh {name}": (fresh, name) for name in families.ALL},
    "fresh bfloat16": (fresh, "qwen3", "bfloat16"),
    "fresh with a tokenizer": (with_tokenizer,),
    **{f"given {name}": (given, name) for name in real_folders.FOLDERS},
    "given in float32": (given, "qwen", "float32"),
    **{f"loaded {name}": (loaded, name) for name in real_folders.FOLDERS},
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Kind -> folder."""
    top = tmp_path_factory.mktemp("exports")
    return {
        kind: make(top / kind.replace(" ", "_"), *more)
        for kind, (make, *more) in KINDS.items()
    }


@pytest.fixture(scope="module")
def by_old(exports, tmp_path_factory):
    """Kind -> what transformers 4 reads, in a process of its own."""
    if not (pathlib.Path(PLACE) / "transformers").is_dir():
        pytest.skip(
            f"transformers {OLD} is not in {PLACE}; `make parity` puts it there"
        )
    out = tmp_path_factory.mktemp("old") / "found.npz"
    folders = [str(folder) for folder in exports.values()]
    done = subprocess.run(
        [sys.executable, reader.__file__, str(out), *folders],
        env=os.environ | {"PYTHONPATH": PLACE, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as arrays:
        assert str(arrays["version"]) == OLD
        found = {kind: {} for kind in exports}
        for key in arrays.files:
            number, _, name = key.partition("/")
            if name:
                found[list(exports)[int(number)]][name] = arrays[key]
    return found


def test_versions():
    """What records say was tested is no newer than what is tested here."""
    installed = Version(transformers.__version__)
    assert Version(NEW) <= installed and installed.major == Version(NEW).major == 5
    assert OLD in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_both_versions_read_the_same(kind, exports, by_old):
    old, new = by_old[kind], reader.read(str(exports[kind]))
    assert old.keys() == new.keys()
    for name, value in new.items():
        if name == "logits":
            np.testing.assert_allclose(old[name], value, atol=1e-4, rtol=0)
        else:
            np.testing.assert_array_equal(old[name], value, err_msg=name)
    config, params = huggingface.load_pretrained(exports[kind], dtype="float32")
    ids = np.arange(3, 13)[None]
    ours = Llama(config).apply({"params": params}, ids, np.ones_like(ids))
    np.testing.assert_allclose(ours, new["logits"], atol=1e-4, rtol=0)
    assert problems_in_4(exports[kind]) == []
