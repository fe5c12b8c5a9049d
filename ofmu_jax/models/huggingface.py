"""Hugging Face folders in and out: configuration, safetensors, tokenizer.

Only safetensors are read: a pickle can run code, safetensors cannot.
"""

import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
import transformers

from ofmu_jax.models.llama import LlamaConfig, Params, RopeScaling

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
IGNORED_TENSORS = "rotary_emb.inv_freq"  # older exports carry this constant
_FILES = ("*.safetensors", "*.json", "tokenizer*", "*.model", "*.jinja")


class ModelError(ValueError):
    """A model folder that cannot be used; the message says why and what to do."""


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
    fields = {
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
        "sliding_window": _sliding_window(hf_config),
        "max_position_embeddings": hf_config.max_position_embeddings,
        "initializer_range": hf_config.initializer_range,
    }
    return LlamaConfig(**(fields | overrides))


def config_to_hf(config: LlamaConfig, tokenizer: Any = None) -> Any:
    """A transformers config that describes the same model."""
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
    return hf_config


def load_config(path_or_name: str | pathlib.Path) -> Any:
    """The transformers config of a folder or hub name; runs no remote code."""
    folder = locate(path_or_name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{path_or_name} has no config.json; is it a model folder?")
    return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)


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
    shapes = dict(_tensor_shapes(config))
    tensors: dict[str, np.ndarray] = {}
    for file in _weight_files(folder):
        with safetensors.safe_open(file, "numpy") as handle:
            for name in handle.keys():
                if name.endswith(IGNORED_TENSORS):
                    continue
                if name == "lm_head.weight" and config.tie_word_embeddings:
                    continue  # some exports write the tied head a second time
                if name not in shapes:
                    raise ModelError(
                        f"{file.name} has the unknown tensor {name!r}; the model is "
                        f"not a {config.num_layers}-layer model of its config."
                    )
                tensor = handle.get_tensor(name)
                if tensor.shape != shapes[name]:
                    raise ModelError(
                        f"{name!r} in {file.name} has shape {tensor.shape}, its "
                        f"config says {shapes[name]}."
                    )
                tensors[name] = tensor if dtype is None else tensor.astype(dtype)
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise ModelError(
            f"{folder} lacks {len(missing)} tensors, the first is {missing[0]!r}; the "
            "download is incomplete or config.json is of another model."
        )
    return config, _to_params(config, tensors)


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
    hf_config = config_to_hf(config, tokenizer) if hf_config is None else hf_config
    written = dtype or jax.tree.leaves(params)[0].dtype
    hf_config.dtype = np.dtype(written).name
    hf_config.save_pretrained(partial)
    ends = getattr(tokenizer, "eos_token_id", None) or hf_config.eos_token_id
    transformers.GenerationConfig(
        bos_token_id=hf_config.bos_token_id,
        eos_token_id=ends,
        pad_token_id=hf_config.pad_token_id,
        do_sample=False,
    ).save_pretrained(partial)
    if tokenizer is not None:
        tokenizer.save_pretrained(partial)
    _write_shards(partial, _to_tensors(config, params, dtype), max_shard_bytes)
    partial.replace(folder)


def load_tokenizer(path_or_name: str | pathlib.Path) -> Any:
    """The fast tokenizer of a folder or hub name; runs no remote code.

    Raises:
      ModelError: if the folder has no tokenizer.
    """
    folder = locate(path_or_name)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    if not any((folder / name).is_file() for name in names):
        raise ModelError(
            f"{path_or_name} has no tokenizer (none of {', '.join(names)}); copy the "
            "tokenizer files of the base model into it."
        )
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def locate(path_or_name: str | pathlib.Path) -> pathlib.Path:
    """The local folder of a model; one that is not local is fetched from the hub."""
    path = pathlib.Path(path_or_name)
    if path.is_dir():
        return path
    name = str(path_or_name)
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no model folder {name}.")
    import huggingface_hub
    from huggingface_hub import errors

    try:
        found = huggingface_hub.snapshot_download(name, allow_patterns=list(_FILES))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise ModelError(
            f"{name!r} is neither a local folder nor a model that could be fetched "
            f"from the hub: {error}"
        ) from error
    return pathlib.Path(found)


def _rope(hf_config: Any) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from transformers 5's field or the two older ones."""
    rope: Mapping[str, Any] = getattr(hf_config, "rope_parameters", None) or {}
    old = getattr(hf_config, "rope_scaling", None) or {}
    rope = {**old, **rope}
    theta = rope.get("rope_theta") or getattr(hf_config, "rope_theta", None) or 1e4
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return float(theta), None
    if kind != "llama3":
        raise ModelError(
            f"rotary scaling {kind!r} is not supported, only 'default' and 'llama3'."
        )
    names = RopeScaling.__dataclass_fields__
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


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text())
        files = [folder / name for name in sorted(set(index["weight_map"].values()))]
    elif (folder / SINGLE).is_file():
        files = [folder / SINGLE]
    else:
        pickles = [path.name for path in folder.glob("*.bin")]
        hint = (
            f"; {pickles[0]} is a pickle, which can run code and is not read: convert "
            "it with transformers' save_pretrained(safe_serialization=True)"
            if pickles
            else ""
        )
        raise ModelError(f"{folder} has no {SINGLE} and no {INDEX}{hint}.")
    for file in files:
        if not file.is_file():
            raise ModelError(f"{INDEX} names {file.name}, which is not in {folder}.")
    return files


def _layout(config: LlamaConfig) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """(name in a layer's tensors, path in the layer's parameters, transposed?)."""
    attention = [("q_proj", config.qkv_bias), ("k_proj", config.qkv_bias)]
    attention += [("v_proj", config.qkv_bias), ("o_proj", config.output_bias)]
    for name, bias in attention:
        yield f"self_attn.{name}.weight", ("attention", name, "kernel"), True
        if bias:
            yield f"self_attn.{name}.bias", ("attention", name, "bias"), False
    if config.qk_norm:
        for name in ("q_norm", "k_norm"):
            yield f"self_attn.{name}.weight", ("attention", name, "scale"), False
    for name in ("gate_proj", "up_proj", "down_proj"):
        yield f"mlp.{name}.weight", (name, "kernel"), True
        if config.mlp_bias:
            yield f"mlp.{name}.bias", (name, "bias"), False
    yield "input_layernorm.weight", ("input_norm", "scale"), False
    yield "post_attention_layernorm.weight", ("post_attention_norm", "scale"), False


def _whole(config: LlamaConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(tensor, path in the parameters) of what is not in a layer."""
    yield "model.embed_tokens.weight", ("embed_tokens", "embedding")
    yield "model.norm.weight", ("norm", "scale")
    if not config.tie_word_embeddings:
        yield "lm_head.weight", ("lm_head",)


def _tensor_shapes(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors, from the shapes of the module's parameters."""
    from ofmu_jax.models.llama import init_params

    abstract = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    for name, path in _whole(config):
        yield name, _get(abstract, path).shape
    for name, path, transposed in _layout(config):
        shape = _get(abstract["layers"], path).shape[1:]
        for i in range(config.num_layers):
            yield f"model.layers.{i}.{name}", shape[::-1] if transposed else shape


def _to_params(config: LlamaConfig, tensors: dict[str, np.ndarray]) -> Params:
    params: Params = {}
    for name, path in _whole(config):
        _set(params, path, jnp.asarray(tensors.pop(name)))
    for name, path, transposed in _layout(config):
        layers = [
            tensors.pop(f"model.layers.{i}.{name}") for i in range(config.num_layers)
        ]
        stacked = np.stack([x.T if transposed else x for x in layers])
        _set(params, ("layers", *path), jnp.asarray(stacked))
    return params


def _to_tensors(
    config: LlamaConfig, params: Params, dtype: Any
) -> Iterator[tuple[str, np.ndarray]]:
    def host(x) -> np.ndarray:
        x = np.asarray(jax.device_get(x))
        return np.ascontiguousarray(x if dtype is None else x.astype(dtype))

    for name, path in _whole(config):
        yield name, host(_get(params, path))
    for i in range(config.num_layers):
        for name, path, transposed in _layout(config):
            layer = _get(params["layers"], path)[i]
            yield f"model.layers.{i}.{name}", host(layer.T if transposed else layer)


def _write_shards(folder: pathlib.Path, tensors, max_bytes: int) -> None:
    """Writes one file, or several with an index, holding one shard in memory."""
    shards: list[list[str]] = []
    shard: dict[str, np.ndarray] = {}
    size = total = 0

    def flush() -> None:
        file = folder / f"shard-{len(shards)}"
        safetensors.numpy.save_file(shard, file, metadata={"format": "pt"})
        shards.append(list(shard))

    for name, tensor in tensors:
        if shard and size + tensor.nbytes > max_bytes:
            flush()
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    flush()
    if len(shards) == 1:
        (folder / "shard-0").rename(folder / SINGLE)
        return
    weight_map = {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"shard-{i}").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def _get(tree: Params, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _set(tree: Params, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
