"""Folders that cannot be used and exports that fail: each says why."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import pytest

from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.models import tensor_writer
from ofmu_jax.models.huggingface import fresh, weights, writing
from ofmu_jax.models.huggingface.folder import (
    ModelError,
    load_pretrained,
    load_tokenizer,
    save_pretrained,
)

NAME = "llama2"
CONFIG = families.FAMILIES[NAME]
KERNEL = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def tensors():
    return families.tensors_of(NAME)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """(config, parameters) to export."""
    folder = tmp_path_factory.mktemp("loaded")
    return load_pretrained(families.write(folder, CONFIG, families.tensors_of(NAME)))


def assert_refused(folder, words):
    with pytest.raises(ModelError, match=words) as error:
        load_pretrained(folder)
    return str(error.value)


# --- tensors


def test_missing_tensor(tensors, tmp_path):
    del tensors[KERNEL]
    words = f"lacks 1 tensors, the first is '{KERNEL}'"
    assert_refused(families.write(tmp_path, CONFIG, tensors), words)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.3.mlp.up_proj.weight",  # a fourth layer
        "model.layers.1.self_attn.q_proj.bias",
        "model.layers.1.self_attn.q_norm.weight",
        "score.weight",
    ],
)
def test_unknown_tensor(tensors, tmp_path, name):
    tensors[name] = np.zeros(2, np.float32)
    assert_refused(
        families.write(tmp_path, CONFIG, tensors), f"unknown tensor '{name}'"
    )


@pytest.mark.parametrize("change", [np.transpose, np.ravel, lambda x: x[:-1]])
def test_misshapen_tensor(tensors, tmp_path, change):
    tensors[KERNEL] = np.ascontiguousarray(change(tensors[KERNEL]))
    message = assert_refused(
        families.write(tmp_path, CONFIG, tensors), f"'{KERNEL}' in model.safetensors"
    )
    assert str(tensors[KERNEL].shape) in message and "(40, 32)" in message


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("int8", "is I8, not"), ("uint8", "is U8"), ("float8_e4m3fn", "is F8_E4M3")],
)
def test_quantised_tensor(tensors, tmp_path, dtype, words):
    tensors[KERNEL] = tensors[KERNEL].astype(jnp.dtype(dtype))
    assert_refused(families.write(tmp_path, CONFIG, tensors), words)


def test_tensor_in_two_files(tensors, tmp_path):
    names = sorted(tensors)
    folder = families.write(tmp_path, CONFIG, tensors, a=names[:9], b=names[8:])
    assert_refused(folder, "is in b.safetensors and in another file")


# --- files


@pytest.mark.parametrize("keep", [0, 4, 300, -1])
def test_truncated_safetensors(tensors, tmp_path, keep):
    folder = families.write(tmp_path, CONFIG, tensors)
    file = folder / weights.SINGLE
    os.truncate(file, keep if keep >= 0 else file.stat().st_size + keep)
    message = assert_refused(folder, "is not a whole safetensors file")
    assert str(file) in message


def test_pointer_in_place_of_a_file(tensors, tmp_path):
    folder = families.write(tmp_path, CONFIG, tensors)
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"
    (folder / weights.SINGLE).write_text(text)
    assert_refused(folder, "model.safetensors is a Git LFS pointer, .*git lfs pull")
    (folder / "config.json").write_text(text)
    assert_refused(folder, "config.json .* Git LFS pointer, .*git lfs pull")


def test_file_in_place_of_its_folder(tensors, tmp_path):
    folder = families.write(tmp_path, CONFIG, tensors)
    assert_refused(folder / weights.SINGLE, "is a file; give the folder that it is in")


def test_pickle_only(tmp_path):
    families.write(tmp_path, CONFIG, {})
    (tmp_path / weights.SINGLE).unlink()
    assert_refused(tmp_path, r"has no model\.safetensors and no model\.safetens")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert_refused(tmp_path, r"pytorch_model\.bin is a pickle, which can run code")


def sharded(folder, tensors):
    names = sorted(tensors)
    return families.write(folder, CONFIG, tensors, a=names[:9], b=names[9:])


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"weight_map": ',
        "[]",
        "3",
        "{}",
        '{"weight_map": ["a.safetensors"]}',
        '{"weight_map": {"x": 1}}',
        '{"weight_map": {"x": ["a.safetensors"]}}',
        '{"weight_map": {"x": "a.safetensors", "y": null}}',
    ],
)
def test_broken_index(tensors, tmp_path, text):
    folder = sharded(tmp_path, tensors)
    (folder / weights.INDEX).write_text(text)
    message = assert_refused(folder, r"is not an index of the form \{\"weight_map\"")
    assert str(folder / weights.INDEX) in message


def test_index_that_is_not_text(tensors, tmp_path):
    folder = sharded(tmp_path, tensors)
    (folder / weights.INDEX).write_bytes(b"\xff\xfe\x00")
    assert_refused(folder, "is not an index")


def test_index_without_entries(tensors, tmp_path):
    folder = sharded(tmp_path, tensors)
    (folder / weights.INDEX).write_text('{"weight_map": {}}')
    assert_refused(folder, f"lacks {len(tensors)} tensors")


def test_index_names_a_missing_file(tensors, tmp_path):
    folder = sharded(tmp_path, tensors)
    (folder / "b.safetensors").unlink()
    assert_refused(folder, r"names b\.safetensors, which is not in")


@pytest.mark.parametrize("form", ["../{}", "{folder}/{}", "sub/{}", "..", "."])
def test_index_leads_out_of_the_folder(tensors, tmp_path, form):
    """Refused even where the file is there and holds what is wanted."""
    folder = sharded(tmp_path / "model", tensors)
    outside = tmp_path / "a.safetensors"
    (folder / "sub").mkdir()
    for target in (outside, folder / "sub" / "a.safetensors"):
        target.write_bytes((folder / "a.safetensors").read_bytes())
    index = json.loads((folder / weights.INDEX).read_text())
    name = form.format("a.safetensors", folder=tmp_path)
    index["weight_map"][min(tensors)] = name
    (folder / weights.INDEX).write_text(json.dumps(index))
    message = assert_refused(folder, "only files of the folder|which is not in")
    assert name in message


# --- tokenizers


def test_tokenizer_round_trip(loaded, tmp_path):
    config, params = loaded
    tokenizer = build_tokenizer(["a few words"], 300)
    save_pretrained(tmp_path / "out", params, config, tokenizer)
    found = load_tokenizer(tmp_path / "out")
    text = "a few words, and ∇ more"
    assert found(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert found.chat_template == tokenizer.chat_template
    assert (found.pad_token_id, found.eos_token_id) == (0, 2)


def test_no_tokenizer(loaded, tmp_path):
    config, params = loaded
    save_pretrained(tmp_path / "out", params, config)
    with pytest.raises(ModelError, match=r"has no tokenizer \(none of tokenizer.json"):
        load_tokenizer(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{", '{"model": {"type": "BPE"}}'])
def test_broken_tokenizer(tmp_path, text):
    families.write(tmp_path, CONFIG, {})
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=f"tokenizer of {tmp_path} cannot be read"):
        load_tokenizer(tmp_path)


# --- exports


def test_existing_folder_is_kept(loaded, tmp_path):
    config, params = loaded
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match=f"{tmp_path} exists; remove it"):
        save_pretrained(tmp_path, params, config)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (fresh, "write_texts"),
        (writing, "write_params"),
        (tensor_writer, "_append"),
        (pathlib.Path, "replace"),
    ],
)
def test_failed_export_leaves_nothing(loaded, tmp_path, monkeypatch, owner, name):
    config, params = loaded

    def fail(*args, **kwargs):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(Interrupted):
            save_pretrained(tmp_path / "deep" / "out", params, config)
    assert list((tmp_path / "deep").iterdir()) == []
    save_pretrained(tmp_path / "deep" / "out", params, config)


def test_what_an_interrupted_export_left_is_replaced(loaded, tmp_path):
    config, params = loaded
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "old.safetensors").write_text("half")
    save_pretrained(tmp_path / "out", params, config)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "old.safetensors").exists()
    load_pretrained(tmp_path / "out")


def test_parameters_of_another_model(loaded, tmp_path):
    config, params = loaded
    fewer = {**params, "layers": jax.tree.map(lambda x: x[:2], params["layers"])}
    without = {k: v for k, v in params.items() if k != "lm_head"}
    for other, words in (
        (fewer, r"has shape \(2, .* the config says \(3, "),
        (without, r"lm_head has shape none, the config says \(61, 32\)"),
        ({**params, "extra": params["norm"]}, "extra.scale has shape .*says none"),
    ):
        with pytest.raises(ModelError, match=words):
            save_pretrained(tmp_path / "out", other, config)
    assert list(tmp_path.iterdir()) == []


def test_config_of_another_model(loaded, tmp_path):
    config, params = loaded
    other = families.hf_config("qwen2")
    with pytest.raises(ModelError, match="hf_config describes another model"):
        save_pretrained(tmp_path / "out", params, config, hf_config=other)
    assert list(tmp_path.iterdir()) == []


def test_given_config_and_its_end_tokens_are_kept(loaded, tmp_path):
    config, params = loaded
    given = families.hf_config(NAME)
    given.eos_token_id, given.some_note = [2, 9], "kept"
    tokenizer = build_tokenizer(["a"], 300)
    save_pretrained(tmp_path / "out", params, config, tokenizer, given, dtype="float16")
    described = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (described["some_note"], described["dtype"]) == ("kept", "float16")
    assert given.dtype is None  # a copy was changed
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 9]
    assert generation["do_sample"] is False
