"""Tensors of a Hugging Face folder: names, shapes, layout.

A kernel here is (inputs, outputs) and stacked over the layers; a PyTorch weight is
(outputs, inputs) and one tensor a layer.
"""

import collections
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ofmu_jax.models.huggingface.checks import check_sizes
from ofmu_jax.models.llama.model import LlamaConfig, Params, init_params
from ofmu_jax.models.tensor_files import (
    DTYPES,
    TensorInfo,
    check_headers,
    check_shapes,
    checked_tensors,
    read_headers,
    read_index,
    read_tensors,
    to_host,
    write_file,
    write_index,
    write_tensors,
)
from ofmu_jax.models.tensor_files import INDEX as INDEX
from ofmu_jax.models.tensor_files import SINGLE as SINGLE
from ofmu_jax.models.tensor_files import ModelError as ModelError

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
IGNORED_TENSORS = "rotary_emb.inv_freq"  # older exports carry this constant


def read_params(folder: pathlib.Path, config: LlamaConfig, dtype: Any = None) -> Params:
    """Parameters from the safetensors of a folder; every tensor is accounted for.

    Args:
      config: the architecture they must have.
      dtype: of the parameters; None keeps that of the files.

    Raises:
      ModelError: as `tensor_files.checked_tensors`.
    """
    infos, tied = read_infos(folder), config.tie_word_embeddings
    shapes, optional = _wanted(config, infos, folder)
    found = checked_tensors(folder, shapes, infos, optional=optional)
    tensors = {
        name: tensor if dtype is None else tensor.astype(dtype, copy=False)
        for name, tensor, _ in found
    }
    second_head = tensors.pop(HEAD, None) if tied else None
    # transformers unties a head that differs: without it, this is another model.
    if second_head is not None and not np.array_equal(second_head, tensors[EMBEDDING]):
        raise ModelError(
            f"{HEAD!r} in {folder} differs from {EMBEDDING!r}, but config.json ties "
            "them; set tie_word_embeddings to false there, or remove the tensor."
        )
    return _to_params(config, tensors)


def read_infos(folder: pathlib.Path) -> dict[str, TensorInfo]:
    """`tensor_files.read_headers`, without the constants of older exports."""
    return _parameters(read_headers(folder))


def _parameters(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {k: v for k, v in infos.items() if not k.endswith(IGNORED_TENSORS)}


def dtypes(folder: pathlib.Path, config: LlamaConfig) -> dict[str, int]:
    """Number of tensors of each dtype, in files whose headers are those of a config.

    Raises:
      ModelError: as `read_params`, but for what only the tensors tell.
    """
    infos = read_infos(folder)
    shapes, optional = _wanted(config, infos, folder)
    check_headers(folder, shapes, infos, optional=optional)
    counts = collections.Counter(DTYPES[info.dtype] for info in infos.values())
    return dict(sorted(counts.items()))


def _wanted(
    config: LlamaConfig, infos: Mapping[str, TensorInfo], folder: pathlib.Path
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Shapes of the tensors that a folder must have, and names that it may lack."""
    check_sizes(_sizes(config), infos, folder)  # before as many names are listed
    shapes = dict(tensor_shapes(config))
    if not config.tie_word_embeddings:
        if shapes.keys() - infos.keys() == {HEAD}:
            raise ModelError(
                f"{folder} lacks {HEAD!r}, and its config.json does not tie it to the "
                "embedding; set tie_word_embeddings to true there if the two are one, "
                "or copy the file that has it."
            )
        return shapes, ()
    return shapes | {HEAD: shapes[EMBEDDING]}, (HEAD,)  # some write it a second time


def _sizes(config: LlamaConfig) -> dict[str, int]:
    """By the names in a config.json."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
    }


def write_params(
    folder: pathlib.Path,
    params: Params,
    config: LlamaConfig,
    *,
    dtype: Any = None,
    max_shard_bytes: int,
) -> None:
    """Writes parameters as safetensors: one file, or several with an index."""
    check_shapes(params, _abstract(config))
    names = dict(tensor_shapes(config))
    tensors = _to_tensors(config, params, dict.fromkeys(names, dtype))
    write_tensors(folder, tensors, max_shard_bytes)


def write_params_like(
    folder: pathlib.Path,
    params: Params,
    config: LlamaConfig,
    source: pathlib.Path,
    *,
    dtype: Any = None,
) -> None:
    """Writes parameters under the names, in the files and dtypes of another folder.

    Args:
      source: whose headers are looked at.
      dtype: of all tensors, in place of theirs.
    """
    check_shapes(params, _abstract(config))
    all_infos = read_headers(source)
    infos = _parameters(all_infos)
    shapes, optional = _wanted(config, infos, source)
    check_headers(source, shapes, infos, optional=optional)
    constants = {k: v for k, v in all_infos.items() if k not in infos}
    by_file: dict[str, list[str]] = {}
    for name, info in all_infos.items():
        by_file.setdefault(_safe(info.file), []).append(name)
    dtypes = {k: dtype or DTYPES[info.dtype] for k, info in infos.items()}
    if HEAD in optional and dtypes.get(HEAD, dtypes[EMBEDDING]) != dtypes[EMBEDDING]:
        params = _as_one(params, dtypes[HEAD], dtypes[EMBEDDING])
    total = 0
    for file, names in by_file.items():
        ours = {name: dtypes[name] for name in names if name in dtypes}
        tensors = dict(_to_tensors(config, params, ours))
        kept = {name: constants[name] for name in names if name in constants}
        tensors |= {name: value for name, value, _ in read_tensors(source, kept)}
        write_file(folder / file, tensors)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if list(by_file) == [SINGLE]:
        return
    weight_map = {name: file for file, names in by_file.items() for name in names}
    if dtype is None and read_index(source / INDEX) == weight_map:
        shutil.copyfile(source / INDEX, folder / INDEX)
    else:
        write_index(folder, weight_map, total)


def _as_one(params: Params, *dtypes: Any) -> Params:
    """Parameters whose embedding is the same in each of the dtypes: a tied head is one
    tensor with it."""
    flat: dict[Any, Any] = dict(flatten_dict(params))
    path = ("embed_tokens", "embedding")
    for dtype in dtypes:
        flat[path] = flat[path].astype(dtype).astype(flat[path].dtype)
    return unflatten_dict(flat)


def widest(params: Params) -> np.dtype:
    """The dtype of the parameters, or the narrowest that holds all of theirs."""
    return _common_dtype(np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params))


def _safe(file: str) -> str:
    """The name of a file of weights; an index may name them as it likes."""
    file = "".join(x if x.isprintable() else "_" for x in file)
    return file if file.endswith(".safetensors") else f"{file}.safetensors"


def tensor_shapes(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors, from the shapes of the module's parameters."""
    abstract: Any = flatten_dict(_abstract(config))
    for name, (path, layer, transposed) in places(config).items():
        shape = abstract[path].shape[0 if layer is None else 1 :]
        if name != HEAD or not config.tie_word_embeddings:
            yield name, shape[::-1] if transposed else shape


def places(
    config: LlamaConfig,
) -> dict[str, tuple[tuple[str, ...], int | None, bool]]:
    """Tensor -> (path in the parameters, layer in it, transposed?).

    A head that is tied is the embedding, for files that hold it a second time.
    """
    found: dict[str, Any] = {name: (path, None, False) for name, path in _whole(config)}
    found.setdefault(HEAD, found[EMBEDDING])
    for i in range(config.num_layers):
        for name, path, transposed in _layout(config):
            found[f"model.layers.{i}.{name}"] = (path, i, transposed)
    return found


def _layout(config: LlamaConfig) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """(name in a layer's tensors, path in the parameters, transposed?)."""
    attention = [("q_proj", config.qkv_bias), ("k_proj", config.qkv_bias)]
    attention += [("v_proj", config.qkv_bias), ("o_proj", config.output_bias)]
    for name, bias in attention:
        path = ("layers", "attention", name)
        yield f"self_attn.{name}.weight", (*path, "kernel"), True
        if bias:
            yield f"self_attn.{name}.bias", (*path, "bias"), False
    for name in ("q_norm", "k_norm") if config.qk_norm else ():
        yield f"self_attn.{name}.weight", ("layers", "attention", name, "scale"), False
    for name in ("gate_proj", "up_proj", "down_proj"):
        yield f"mlp.{name}.weight", ("layers", name, "kernel"), True
        if config.mlp_bias:
            yield f"mlp.{name}.bias", ("layers", name, "bias"), False
    for name in ("input", "post_attention"):
        yield f"{name}_layernorm.weight", ("layers", f"{name}_norm", "scale"), False


def _whole(config: LlamaConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(tensor, path in the parameters) of what is not in a layer."""
    yield EMBEDDING, ("embed_tokens", "embedding")
    yield "model.norm.weight", ("norm", "scale")
    if not config.tie_word_embeddings:
        yield HEAD, ("lm_head",)


def _to_params(config: LlamaConfig, tensors: dict[str, np.ndarray]) -> Params:
    whole = _whole(config)
    params: Params = {path: jnp.asarray(tensors.pop(name)) for name, path in whole}
    for name, path, transposed in _layout(config):
        names = [f"model.layers.{i}.{name}" for i in range(config.num_layers)]
        shape = tensors[names[0]].shape
        stacked = np.empty(
            (len(names), *(shape[::-1] if transposed else shape)),
            _common_dtype(tensors[name].dtype for name in names),
        )
        for row, name in zip(stacked, names, strict=True):
            tensor = tensors.pop(name)  # freed at once: one copy of the model in all
            row[...] = tensor.T if transposed else tensor
        params[path] = jnp.asarray(stacked)
    return unflatten_dict(params)


def _common_dtype(dtypes: Iterable[np.dtype]) -> np.dtype:
    """The narrowest that holds all; float16 and bfloat16 have only float32."""
    kinds = set(dtypes)
    return kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)


def _to_tensors(
    config: LlamaConfig, params: Params, dtypes: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of these names, each in its dtype; None keeps that of the leaf."""
    flat: Any = flatten_dict(params)
    found = places(config)
    for name, dtype in dtypes.items():
        path, layer, transposed = found[name]
        leaf = flat[path] if layer is None else flat[path][layer]
        yield name, to_host(name, leaf.T if transposed else leaf, dtype)


def _abstract(config: LlamaConfig) -> Params:
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
