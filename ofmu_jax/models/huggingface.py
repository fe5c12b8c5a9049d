"""Hugging Face folders in and out: configuration, safetensors, tokenizer.

Only safetensors are read: a pickle can run code, safetensors cannot.
"""

import copy
import dataclasses
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import transformers

from ofmu_jax.models import weights
from ofmu_jax.models.llama import LlamaConfig, Params, RopeScaling
from ofmu_jax.models.weights import ModelError as ModelError

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
_TOKENIZER_FILES = ("*.json", "tokenizer*", "*.model", "*.jinja", "vocab*", "merges*")
_FILES = ("*.safetensors", *_TOKENIZER_FILES)


def config_from_hf(hf_config: Any, **overrides: Any) -> LlamaConfig:
    """The architecture of a transformers config; ``overrides`` replace fields.

    Raises:
      ModelError: for a model type, activation, rotary scaling or mixture of layer
        types that the module does not have.
    """
    kind = hf_config.model_type
    if kind not in SUPPORTED:
        raise ModelError(
            f"model type {kind!r} is not supported; supported are {SUPPORTED}."
        )
    if hf_config.hidden_act != "silu":
        raise ModelError(
            f"activation {hf_config.hidden_act!r} is not supported, only 'silu'."
        )
    theta, scaling = _rope(hf_config)
    heads = hf_config.num_attention_heads
    bias = bool(getattr(hf_config, "attention_bias", False))
    fields: dict[str, Any] = {
        "vocab_size": hf_config.vocab_size,
        "hidden_size": hf_config.hidden_size,
        "intermediate_size": hf_config.intermediate_size,
        "num_layers": hf_config.num_hidden_layers,
        "num_heads": heads,
        "num_kv_heads": hf_config.num_key_value_heads or heads,
        "head_dim": getattr(hf_config, "head_dim", None)
        or hf_config.hidden_size // heads,
        "rope_theta": theta,
        "rope_scaling": scaling,
        "rms_norm_eps": hf_config.rms_norm_eps,
        "tie_word_embeddings": bool(hf_config.tie_word_embeddings),
        "qkv_bias": bias or kind == "qwen2",
        "output_bias": bias,
        "mlp_bias": bool(getattr(hf_config, "mlp_bias", False)),
        "qk_norm": kind == "qwen3",
        "sliding_window": None if kind == "llama" else _sliding_window(hf_config),
        "max_position_embeddings": hf_config.max_position_embeddings,
        "initializer_range": hf_config.initializer_range,
    }
    return LlamaConfig(**(fields | overrides))


def config_to_hf(config: LlamaConfig, tokenizer: Any = None) -> Any:
    """A transformers config that describes the same model.

    Raises:
      ModelError: if no supported model type has this combination of fields.
    """
    options: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
    }
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
        options |= {
            "attention_bias": config.output_bias,
            "mlp_bias": config.mlp_bias,
        }
    if kind is transformers.MistralConfig:
        options["sliding_window"] = config.sliding_window
    elif config.sliding_window is not None:
        options |= {
            "use_sliding_window": True,
            "sliding_window": config.sliding_window,
            "max_window_layers": 0,
        }
    if tokenizer is not None:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            options[name] = getattr(tokenizer, name)
    hf_config = kind(**options)
    hf_config.architectures = [kind.__name__.replace("Config", "ForCausalLM")]
    same = config_from_hf(hf_config, dtype=config.dtype, remat=config.remat)
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


def load_config(path_or_name: str | pathlib.Path) -> Any:
    """The transformers config of a folder or hub name; runs no remote code."""
    folder = locate(path_or_name, ("config.json",))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{path_or_name} has no config.json; is it a model folder?")
    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"config.json of {path_or_name} cannot be used; supported model types are "
            f"{SUPPORTED}: {error}"
        ) from error


def load_pretrained(
    path_or_name: str | pathlib.Path, dtype: Any = None
) -> tuple[LlamaConfig, Params]:
    """Architecture and parameters of a Hugging Face model.

    Args:
      path_or_name: a local folder, or a name on the hub.
      dtype: of the parameters; None keeps that of the files.

    Raises:
      ModelError: no such model, no safetensors, a missing, unknown or misshapen
        tensor, or an architecture that is not supported.
    """
    folder = locate(path_or_name)
    config = config_from_hf(load_config(folder))
    return config, weights.read_params(folder, config, dtype)


def save_pretrained(
    folder: str | pathlib.Path,
    params: Params,
    config: LlamaConfig,
    tokenizer: Any = None,
    hf_config: Any = None,
    *,
    dtype: Any = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes a folder that transformers loads; it appears whole or not at all.

    Args:
      folder: must not exist yet.
      params: as `load_pretrained` gives them.
      config: their architecture.
      tokenizer: written beside them, if given.
      hf_config: written as config.json; default: made from ``config``.
      dtype: of the tensors written; None keeps that of the parameters.
      max_shard_bytes: larger models are cut into several files with an index.

    Raises:
      FileExistsError: if the folder exists.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; remove it or choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if hf_config is None:
        hf_config = config_to_hf(config, tokenizer)
    hf_config = copy.deepcopy(hf_config)
    written = jax.tree.leaves(params)[0].dtype if dtype is None else dtype
    hf_config.dtype = np.dtype(written).name
    hf_config.save_pretrained(partial)
    transformers.GenerationConfig(
        bos_token_id=hf_config.bos_token_id,
        eos_token_id=_end_ids(hf_config, tokenizer),
        pad_token_id=hf_config.pad_token_id,
        do_sample=False,
    ).save_pretrained(partial)
    if tokenizer is not None:
        tokenizer.save_pretrained(partial)
    weights.write_params(
        partial, params, config, dtype=dtype, max_shard_bytes=max_shard_bytes
    )
    partial.replace(folder)


def load_tokenizer(path_or_name: str | pathlib.Path) -> Any:
    """The fast tokenizer of a folder or hub name; runs no remote code.

    Raises:
      ModelError: if the folder has no tokenizer.
    """
    folder = locate(path_or_name, _TOKENIZER_FILES)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    if not any((folder / name).is_file() for name in names):
        raise ModelError(
            f"{path_or_name} has no tokenizer (none of {', '.join(names)}); copy the "
            "tokenizer files of the base model into it."
        )
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def locate(
    path_or_name: str | pathlib.Path, patterns: Sequence[str] = _FILES
) -> pathlib.Path:
    """The local folder of a model; else the hub's files of these name patterns.

    Raises:
      ModelError: if there is neither.
    """
    path = pathlib.Path(path_or_name)
    if path.is_dir():
        return path
    name = str(path_or_name)
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no model folder {name}.")
    import huggingface_hub
    from huggingface_hub import errors

    try:
        found = huggingface_hub.snapshot_download(name, allow_patterns=list(patterns))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise ModelError(
            f"{name!r} is neither a local folder nor a model that could be fetched "
            f"from the hub: {error}"
        ) from error
    return pathlib.Path(found)


def _rope(hf_config: Any) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from transformers 5's field or the two older ones."""
    old = getattr(hf_config, "rope_scaling", None) or {}
    rope = {**old, **(getattr(hf_config, "rope_parameters", None) or {})}
    theta = rope.get("rope_theta") or getattr(hf_config, "rope_theta", None) or 1e4
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return float(theta), None
    if kind != "llama3":
        raise ModelError(
            f"rotary scaling {kind!r} is not supported, only 'default' and 'llama3'."
        )
    names = [field.name for field in dataclasses.fields(RopeScaling)]
    if missing := [name for name in names if rope.get(name) is None]:
        raise ModelError(
            f"rotary scaling 'llama3' needs {missing}, config.json has only {rope}."
        )
    return float(theta), RopeScaling(**{name: rope[name] for name in names})


def _end_ids(hf_config: Any, tokenizer: Any) -> int | list[int] | None:
    """Every end-of-sequence id: chat models list several in their config."""
    found = hf_config.eos_token_id
    ids = list(found) if isinstance(found, list | tuple) else [found]
    ids.append(getattr(tokenizer, "eos_token_id", None))
    ids = list(dict.fromkeys(i for i in ids if i is not None))
    if len(ids) > 1:
        return ids
    return ids[0] if ids else None


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
