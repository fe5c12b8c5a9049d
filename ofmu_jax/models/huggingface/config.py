"""The architecture in a transformers config, and a config for an architecture."""

import dataclasses
from typing import Any

import transformers

from ofmu_jax.models.huggingface.checks import ROTARY
from ofmu_jax.models.huggingface.checks import SUPPORTED as SUPPORTED
from ofmu_jax.models.llama.config import LlamaConfig, RopeScaling
from ofmu_jax.models.tensor_files import ModelError

# A field here: the attribute of every supported transformers config.
_NAMES = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    **{
        name: name
        for name in (
            *("vocab_size", "hidden_size", "intermediate_size", "rms_norm_eps"),
            *("tie_word_embeddings", "max_position_embeddings", "initializer_range"),
        )
    },
}


def config_from_hf(hf_config: Any, **overrides: Any) -> LlamaConfig:
    """The architecture of a transformers config; ``overrides`` replace fields.

    >>> hf_config = transformers.MistralConfig(num_hidden_layers=2, sliding_window=64)
    >>> config = config_from_hf(hf_config, dtype="bfloat16")
    >>> config.num_layers, config.num_kv_heads, config.sliding_window, config.dtype
    (2, 8, 64, 'bfloat16')

    Raises:
      ModelError: for a model type, activation, quantisation, rotary scaling or mixture
        of layer types that the module does not have, or entries that do not fit.
    """
    try:
        return _config_from_hf(hf_config, **overrides)
    except ModelError:
        raise
    except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"config.json describes no possible model: {error}") from error


def _config_from_hf(hf_config: Any, **overrides: Any) -> LlamaConfig:
    kind = hf_config.model_type
    if kind not in SUPPORTED:
        raise ModelError(
            f"model type {kind!r} is not supported; supported are {SUPPORTED}."
        )
    if hf_config.hidden_act not in ("silu", "swish"):  # two names for one
        raise ModelError(
            f"activation {hf_config.hidden_act!r} is not supported, only 'silu'."
        )
    if getattr(hf_config, "quantization_config", None):
        raise ModelError(
            f"the model is quantised ({hf_config.quantization_config}), which is not "
            "supported; give the unquantised one."
        )
    theta, scaling = _rope(hf_config)
    heads = hf_config.num_attention_heads
    # Others have such an entry in some files, and transformers does not look at it.
    bias = kind in ("llama", "qwen3") and getattr(hf_config, "attention_bias", False)
    fields = {ours: getattr(hf_config, theirs) for ours, theirs in _NAMES.items()}
    fields |= {
        "num_kv_heads": hf_config.num_key_value_heads or heads,
        "head_dim": getattr(hf_config, "head_dim", None)
        or hf_config.hidden_size // heads,
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": bool(hf_config.tie_word_embeddings),
        "qkv_bias": bool(bias) or kind == "qwen2",
        "output_bias": bool(bias),
        "mlp_bias": kind == "llama" and bool(getattr(hf_config, "mlp_bias", 0)),
        "qk_norm": kind == "qwen3",
        "sliding_window": None if kind == "llama" else _sliding_window(hf_config),
    }
    return LlamaConfig(**(fields | overrides))


def config_to_hf(config: LlamaConfig, tokenizer: Any = None) -> Any:
    """A transformers config that describes the same model.

    Raises:
      ModelError: if no supported model type has this combination of fields.
    """
    options = {theirs: getattr(config, ours) for ours, theirs in _NAMES.items()}
    options["head_dim"] = config.head_dim
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        rope |= {"rope_type": "llama3", **vars(config.rope_scaling)}
    options["rope_parameters"] = rope
    if config.qk_norm:
        kind = transformers.Qwen3Config
        options["attention_bias"] = config.output_bias
    elif config.qkv_bias and not config.output_bias:
        kind = transformers.Qwen2Config
    elif config.sliding_window is not None:
        kind = transformers.MistralConfig
    else:
        kind = transformers.LlamaConfig
        options |= {"attention_bias": config.output_bias, "mlp_bias": config.mlp_bias}
    if config.sliding_window is not None:
        options["sliding_window"] = config.sliding_window
        if kind is not transformers.MistralConfig:
            options |= {"use_sliding_window": True, "max_window_layers": 0}
    if tokenizer is not None:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            options[name] = getattr(tokenizer, name)
    hf_config = kind(**options)
    hf_config.architectures = [kind.__name__.replace("Config", "ForCausalLM")]
    same = config_from_hf(hf_config, **config.computation)
    if same != config:
        lost = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config)
            if getattr(same, field.name) != getattr(config, field.name)
        }
        raise ModelError(
            f"none of {SUPPORTED} has these fields together, {kind.__name__} lacks "
            f"{lost}; choose the fields of one of these models."
        )
    return hf_config


def _rope(hf_config: Any) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from transformers 5's field or the two older ones."""
    old = getattr(hf_config, "rope_scaling", None) or {}
    rope = {**old, **(getattr(hf_config, "rope_parameters", None) or {})}
    theta = rope.get("rope_theta") or getattr(hf_config, "rope_theta", None) or 1e4
    if rope.get("partial_rotary_factor") not in (None, 1.0):
        raise ModelError(
            f"partial_rotary_factor={rope['partial_rotary_factor']} is not supported, "
            "only 1.0."
        )
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return float(theta), None
    if kind not in ROTARY:
        raise ModelError(
            f"rotary scaling {kind!r} is not supported, only "
            f"{' and '.join(map(repr, ROTARY))}."
        )
    names = [field.name for field in dataclasses.fields(RopeScaling)]
    if missing := [name for name in names if rope.get(name) is None]:
        raise ModelError(
            f"rotary scaling 'llama3' needs {missing}, config.json has only {rope}."
        )
    return float(theta), RopeScaling(**{name: rope[name] for name in names})


def _sliding_window(hf_config: Any) -> int | None:
    window = getattr(hf_config, "sliding_window", None)
    if window is None or not getattr(hf_config, "use_sliding_window", True):
        return None
    kinds = set(getattr(hf_config, "layer_types", None) or ["sliding_attention"])
    if kinds == {"full_attention"}:
        return None
    if kinds != {"sliding_attention"}:
        raise ModelError(
            f"layers of several kinds ({', '.join(sorted(kinds))}) are not supported."
        )
    return window
