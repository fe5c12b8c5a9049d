"""Configs that describe no model are refused before anything is made of them."""

import dataclasses
import json
import time

import model_families as families
import pytest
import real_folders
import safetensors.numpy

from ofmu_jax.models import classifier
from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.huggingface.folder import ModelError, load_config, load_pretrained
from ofmu_jax.models.llama.config import LlamaConfig
from ofmu_jax.models.resnet import ResNetConfig

NAN, INF = float("nan"), float("inf")
SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
)


@pytest.fixture(scope="module")
def tensors():
    return families.tensors_of("llama3")


def written(folder, tensors, **entries):
    config = families.ALL["llama3"] | entries
    return families.write(folder, config, tensors)


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        *((name, 0, "must be a whole number from 1 to") for name in SIZES),
        *(
            (name, value, "must be a whole number from 1")
            for name in SIZES[:4]
            for value in (-3, 1e9, 32.0, True, "32", [32], {}, NAN, INF, None, 10**30)
        ),
        ("hidden_size", 10**12, "hidden_size is 1000000000000; it must be"),
        ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000; it must be"),
        ("head_dim", 0, "must be a whole number"),
        ("head_dim", 7, "head_dim is 7; it must be even"),
        ("num_key_value_heads", 3, "num_attention_heads is 4, which is not a multiple"),
        ("num_attention_heads", 3, "which is not a multiple of num_key_value_heads, 2"),
        ("hidden_size", 36, "hidden_size is 36, which num_attention_heads, 4, do not"),
        *(
            ("rms_norm_eps", value, "rms_norm_eps is .*; it must be a number above 0")
            for value in (0, -1e-5, NAN, INF, "1e-5", True, None, 2)
        ),
        *(
            ("rope_theta", value, "rope_theta is .*; it must be a number above 0")
            for value in (0, -1.0, NAN, INF, "1e4", True, 1e31)
        ),
        ("rope_scaling", "linear", "rope_scaling is 'linear'; it must be an object"),
        (
            "rope_scaling",
            {"rope_type": "llama3", "factor": 0},
            "rope_scaling.factor is 0",
        ),
        (
            "rope_scaling",
            {"low_freq_factor": 4.0, "high_freq_factor": 4.0},
            "rope_scaling.low_freq_factor is 4.0; it must be below high_freq_factor",
        ),
        *(
            ("rope_scaling", {"rope_type": kind, "factor": 4.0}, f"'{kind}' is not sup")
            for kind in ("linear", "dynamic", "yarn", "longrope", "su")
        ),
        ("rope_scaling", {"type": "yarn", "factor": 4.0}, "'yarn' is not supported"),
        ("rope_scaling", {"factor": 4.0}, "has the factor 4.0 and no rope_type"),
        (
            "rope_scaling",
            {"type": "linear", "rope_type": "default", "factor": 4.0},
            "rope_scaling has rope_type 'default' and type 'linear'; leave the one",
        ),
        (
            "rope_parameters",
            {"full_attention": {"rope_type": "default", "rope_theta": 1e6}},
            "has entries for kinds of layers .*full_attention",
        ),
        ("quantization_config", "int8", "quantization_config is 'int8': quantised"),
        ("compression_config", {"bits": 4}, "compression_config is .*: quantised"),
        ("hidden_act", None, "hidden_act"),
        ("rope_parameters", {"rope_theta": NAN}, "rope_parameters.rope_theta is nan"),
        ("tie_word_embeddings", "yes", "tie_word_embeddings is 'yes'; it must be true"),
        ("attention_bias", 1, "attention_bias is 1; it must be true or false"),
        ("sliding_window", -1, "sliding_window is -1"),
        ("layer_types", ["full_attention"], "layer_types has 1 entries"),
        ("layer_types", {"a": 1}, "layer_types is {'a': 1}; it must be a list"),
        ("eos_token_id", "2", "eos_token_id is '2'; it must be a token id"),
        ("initializer_range", NAN, "initializer_range is nan"),
        ("model_type", "gpt2", "model type 'gpt2' is not supported"),
        ("model_type", ["llama"], "model type .* is not supported"),
    ],
)
def test_an_entry_that_no_model_has(tensors, tmp_path, entry, value, words):
    """One line with entry, value and file; in no time and no memory."""
    folder = written(tmp_path, tensors, **{entry: value})
    started = time.monotonic()
    with pytest.raises(ModelError, match=words) as caught:
        load_pretrained(folder)
    assert time.monotonic() - started < 20  # with a list of 1e9 layers: minutes
    assert f"config.json of {folder}" in str(caught.value)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_a_head_that_is_neither_there_nor_tied(tmp_path):
    """As in files without the entry, of which transformers would make a random head."""
    folder = real_folders.qwen(tmp_path / "qwen")
    config = json.loads((folder / "config.json").read_text())
    del config["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="set tie_word_embeddings to true there if"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["qwen", "mistral"])
def test_entries_that_transformers_does_not_look_at(tmp_path, name):
    folder = real_folders.FOLDERS[name](tmp_path / name)
    before = load_pretrained(folder)[0]
    config = json.loads((folder / "config.json").read_text())
    more = {"attention_bias": True, "mlp_bias": True, "hidden_act": "swish"}
    (folder / "config.json").write_text(json.dumps(config | more))
    after, _ = load_pretrained(folder)  # its files have no more biases than before
    assert after == before and not (after.output_bias or after.mlp_bias)


@pytest.mark.parametrize(
    ("entry", "value", "found"),
    [
        ("num_hidden_layers", 10**4, "its files hold 3 layers"),
        ("hidden_size", 2**20, r"'model.embed_tokens.weight' .* has shape \(61, 32\)"),
        ("vocab_size", 62, r"'model.embed_tokens.weight' .* has shape \(61, 32\)"),
        ("intermediate_size", 2**24, r"gate_proj.weight' .* has shape \(40, 32\)"),
        ("num_attention_heads", 2, r"of head_dim 8, .*q_proj.weight' .* \(32, 32\)"),
        ("num_key_value_heads", 4, r"of head_dim 8, .*k_proj.weight' .* \(16, 32\)"),
    ],
)
def test_sizes_that_the_headers_contradict(
    tensors, tmp_path, monkeypatch, entry, value, found
):
    """By the headers alone: no shape is made of the config, no tensor is read."""

    def fail(*_):
        raise AssertionError("made or read")

    monkeypatch.setattr(weights, "tensor_shapes", fail)
    folder = written(tmp_path, tensors, head_dim=8, **{entry: value})
    words = f"{entry} in {folder}/config.json is {value}.*{found}"
    with pytest.raises(ModelError, match=words):
        load_pretrained(folder)


def test_what_real_folders_say_is_accepted(tmp_path):
    for name, make in real_folders.FOLDERS.items():
        load_config(make(tmp_path / name))


@pytest.mark.parametrize(
    "text", ['{"hidden_size": ' + "[" * 10**5, "9" * 5000, '{"a": ' + "9" * 5000 + "}"]
)
def test_json_that_cannot_be_read(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=f"config.json of {tmp_path} cannot be used"):
        load_config(tmp_path)


def test_a_config_of_many_bytes(tmp_path):
    (tmp_path / "config.json").write_text(" " * (2**24 + 1))
    with pytest.raises(ModelError, match=r"it has 16,777,217 bytes; at most"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("rms_norm_eps", NAN), ("rms_norm_eps", 0.0), ("rope_theta", INF)],
)
def test_a_config_made_in_python(field, value):
    with pytest.raises(ValueError, match=f"{field}={value} must be above 0"):
        LlamaConfig(**{field: value})


def header(folder, described, size=64):
    """A safetensors file of this header and so many bytes."""
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    length = len(text).to_bytes(8, "little")
    (folder / weights.SINGLE).write_bytes(length + text + bytes(size))


@pytest.mark.parametrize(
    "described",
    [
        {"a": {"dtype": "F32", "shape": [10**12, 10**12], "data_offsets": [0, 64]}},
        {"a": {"dtype": "F32", "shape": [2**63, 4], "data_offsets": [0, 64]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 64]}},
        {"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 2**62]}},
        {"a": {"dtype": "F32", "shape": [16], "data_offsets": [64, 0]}},
        {"a": {"dtype": "Q4", "shape": [16], "data_offsets": [0, 64]}},
        {"a": 3},
        [],
        b"{" * 1000,
        b"\xff\xfe",
        b"",
    ],
)
def test_a_header_that_is_absurd(tmp_path, described):
    """Of a model, and of an image classifier."""
    (tmp_path / "config.json").write_text(json.dumps(families.ALL["llama3"]))
    header(tmp_path, described)
    file = tmp_path / weights.SINGLE
    with pytest.raises(ModelError, match=f"{file} is not a whole safetensors file"):
        load_pretrained(tmp_path)
    settings = {"schema": classifier.SCHEMA, "version": classifier.VERSION}
    settings |= {**dataclasses.asdict(ResNetConfig(num_classes=3)), "class_names": []}
    (tmp_path / classifier.CONFIG).write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        classifier.load(tmp_path)


def test_a_length_of_header_beyond_the_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(families.ALL["llama3"]))
    (tmp_path / weights.SINGLE).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        load_pretrained(tmp_path)


def test_a_dimension_of_nothing(tensors, tmp_path):
    folder = written(tmp_path, tensors)
    name = "model.layers.0.mlp.up_proj.weight"
    empty = {name: tensors[name][:0]}
    safetensors.numpy.save_file(tensors | empty, folder / weights.SINGLE)
    with pytest.raises(ModelError, match=r"up_proj.weight' in .* has shape \(0, 32\)"):
        load_pretrained(folder)
