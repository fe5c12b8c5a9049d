"""The architecture in a transformers config, and back."""

import dataclasses

import model_families as families
import pytest
import transformers

from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.models.huggingface.folder import (
    ModelError,
    config_from_hf,
    config_to_hf,
    load_config,
    load_pretrained,
)
from ofmu_jax.models.llama.config import LlamaConfig, RopeScaling

TINY = LlamaConfig(
    vocab_size=5,
    hidden_size=4,
    intermediate_size=6,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=2,
)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "llama3",
            {
                "rope_scaling": RopeScaling(8.0, 1.0, 4.0, 128),
                "num_kv_heads": 2,
                "tie_word_embeddings": True,
                "head_dim": 8,
                "rms_norm_eps": 1e-5,
                "num_layers": 3,
            },
        ),
        ("llama2", {"num_kv_heads": 4, "tie_word_embeddings": False}),
        ("mistral", {"sliding_window": 4, "head_dim": 12, "qkv_bias": False}),
        ("qwen2", {"qkv_bias": True, "output_bias": False, "rope_theta": 1e6}),
        ("qwen3", {"qk_norm": True, "qkv_bias": False, "head_dim": 16}),
        ("llama_biases", {"qkv_bias": True, "output_bias": True, "mlp_bias": True}),
        ("mistral_no_window", {"sliding_window": None}),
        ("qwen2_window", {"sliding_window": 3, "qkv_bias": True}),
        ("qwen3_window_bias", {"sliding_window": 5, "output_bias": True}),
    ],
)
def test_config_from_hf(name, fields):
    config = config_from_hf(families.hf_config(name))
    assert {field: getattr(config, field) for field in fields} == fields
    assert (config.vocab_size, config.hidden_size, config.num_heads) == (61, 32, 4)


@pytest.mark.parametrize("name", families.ALL)
def test_config_round_trip(name, tmp_path):
    """Here -> transformers -> config.json -> transformers -> here."""
    config = config_from_hf(families.hf_config(name))
    converted = config_to_hf(config)
    converted.save_pretrained(tmp_path)
    assert config_from_hf(load_config(tmp_path)) == config
    # a Mistral without a window is a Llama without biases: the same function
    kind = "llama" if name == "mistral_no_window" else families.ALL[name]["model_type"]
    assert converted.model_type == kind
    assert converted.architectures[0].lower() == f"{kind}forcausallm"


def test_overrides_and_older_fields():
    old = dataclasses.make_dataclass("Old", [("rope_theta", float)])(5e5)
    for name, value in vars(families.hf_config("llama2")).items():
        if name != "rope_parameters":
            setattr(old, name, value)
    scaling = {"type": "llama3", **vars(RopeScaling())}
    old.model_type, old.rope_scaling = "llama", scaling
    config = config_from_hf(old, dtype="bfloat16", remat="full")
    assert (config.rope_theta, config.rope_scaling) == (5e5, RopeScaling())
    assert (config.dtype, config.remat) == ("bfloat16", "full")


def test_config_to_hf_takes_the_special_tokens():
    tokenizer = build_tokenizer(["a"], 300)
    converted = config_to_hf(TINY, tokenizer)
    ids = converted.pad_token_id, converted.bos_token_id, converted.eos_token_id
    assert ids == (0, 1, 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"qk_norm": True, "mlp_bias": True},
        {"qkv_bias": True, "mlp_bias": True},
        {"output_bias": True},
        {"sliding_window": 3, "mlp_bias": True},
    ],
)
def test_fields_that_no_family_has(fields):
    with pytest.raises(ModelError, match=r"none of .* has these fields together"):
        config_to_hf(dataclasses.replace(TINY, **fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not supported; supported are"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
            "rotary scaling 'linear'",
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
            r"needs \['low_freq_factor', 'high_freq_factor', 'original",
        ),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor=0.5",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised .*gptq"),
        ({"num_key_value_heads": 3}, "num_heads=4 is not a multiple of num_kv_heads=3"),
        ({"num_hidden_layers": 0}, "num_layers=0 must be at least 1"),
        ({"vocab_size": -1}, "vocab_size=-1 must be"),
    ],
)
def test_unsupported_config(fields, words):
    found = families.hf_config("llama2")
    for name, value in fields.items():
        object.__setattr__(found, name, value)
    with pytest.raises(ModelError, match=words):
        config_from_hf(found)


def test_layers_of_several_kinds():
    settings = families.ALL["qwen2_window"] | {"max_window_layers": 1}
    settings.pop("model_type")
    with pytest.raises(ModelError, match="full_attention, sliding_attention"):
        config_from_hf(transformers.Qwen2Config(**settings))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "3",
        "\udcff",
        '{"model_type": "nope"}',
        '{"model_type": "llama", "hidden_size": "wide"}',
        '{"model_type": "llama", "num_attention_heads": 0}',
        '{"model_type": "nope", "auto_map": {"AutoConfig": "code.Config"}}',
    ],
)
def test_broken_config_json(tmp_path, text):
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ModelError, match=f"config.json of {tmp_path} cannot be used"):
        load_config(tmp_path)


def test_no_folder_and_no_config(tmp_path):
    with pytest.raises(ModelError, match=f"no model folder {tmp_path}/none"):
        load_pretrained(tmp_path / "none")
    with pytest.raises(ModelError, match=r"no model folder \./none"):
        load_pretrained("./none")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_pretrained(tmp_path)


def test_hub_name_that_cannot_be_fetched(monkeypatch):
    import huggingface_hub

    def offline(name, **patterns):
        assert "*.safetensors" in patterns["allow_patterns"]
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match=r"'some/model' is neither .* no network"):
        load_pretrained("some/model")
