"""Tensors of a Hugging Face folder: names, shapes, layout.

A kernel here is (inputs, outputs) and stacked over the layers; a PyTorch weight is
(outputs, inputs) and one tensor a layer.
"""

import collections
import functools
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from ofmu_jax.models.huggingface.checks import check_sizes
from ofmu_jax.models.llama.model import LlamaConfig, Params, init_params
from ofmu_jax.models.tensor_files import DTYPES, TensorInfo, check_headers, read_headers
from ofmu_jax.models.tensor_files import INDEX as INDEX
from ofmu_jax.models.tensor_files import SINGLE as SINGLE
from ofmu_jax.models.tensor_files import ModelError as ModelError
from ofmu_jax.models.tensor_slices import Index, Slices, array_of
from ofmu_jax.parallel.sharding import shardings

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
IGNORED_TENSORS = "rotary_emb.inv_freq"  # older exports carry this constant


def read_params(
    folder: pathlib.Path,
    config: LlamaConfig,
    dtype: Any = None,
    mesh: Mesh | None = None,
) -> Params:
    """Parameters from the safetensors of a folder; every tensor is accounted for.

    Of a mesh each process reads the slices that its own devices hold, and looks at the
    entries of these alone; of headers it looks at all.

    Args:
      config: the architecture they must have.
      dtype: of the parameters; None keeps that of the files.
      mesh: where they lie (`parallel.sharding`); None: on the default device.

    Raises:
      ModelError: as `tensor_files.check_headers`, a tensor that is not finite, or a
        tied head that differs from its embedding.
    """
    infos, _ = checked_infos(folder, config)
    slices = Slices(folder, infos, None if dtype is None else np.dtype(dtype))
    outline = abstract(config)
    where: Any = {} if mesh is None else flatten_dict(shardings(outline, mesh))
    found = places(config)
    params: dict[Any, jax.Array] = {}
    for path, leaf in _flat(outline).items():
        names = [name for name in infos if name in found and found[name][0] == path]
        names.sort(key=lambda name: (found[name][1] or 0, name == HEAD))
        _, layer, turned = found[names[0]]
        if layer is None:
            kind = slices.dtype_of(names[0])
            fill = _whole_tensor(slices, names, folder)
        else:
            kind = common_dtype(map(slices.dtype_of, names))
            fill = _stack(slices, names, turned)
        params[path] = array_of(leaf.shape, kind, where.get(path), fill)
    return unflatten_dict(params)


def _flat(tree: Any) -> dict[Any, Any]:
    return dict(flatten_dict(tree))


def _stack(slices: Slices, names: list[str], transposed: bool) -> Any:
    """Fills a slice of a stack of layers."""

    def fill(out: np.ndarray, index: Index) -> None:
        layers, *rest = index
        for row, name in zip(out, names[layers], strict=True):
            slices.fill(row, name, tuple(rest), transposed=transposed)

    return fill


def _whole_tensor(slices: Slices, names: list[str], folder: pathlib.Path) -> Any:
    """Fills a slice of one tensor, or of two that must be the same."""

    def fill(out: np.ndarray, index: Index) -> None:
        first, *again = names
        slices.fill(out, first, index)
        # transformers unties a head that differs: without it, this is another model.
        for name in again:
            if not slices.equal(name, first, index):
                raise ModelError(
                    f"{name!r} in {folder} differs from {first!r}, but config.json "
                    "ties them; set tie_word_embeddings to false there, or remove the "
                    "tensor."
                )

    return fill


def read_infos(folder: pathlib.Path) -> dict[str, TensorInfo]:
    """`tensor_files.read_headers`, without the constants of older exports."""
    return _parameters(read_headers(folder))


def _parameters(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {k: v for k, v in infos.items() if not k.endswith(IGNORED_TENSORS)}


def checked_infos(
    folder: pathlib.Path,
    config: LlamaConfig,
    every: Mapping[str, TensorInfo] | None = None,
) -> tuple[dict[str, TensorInfo], tuple[str, ...]]:
    """`read_infos` of a folder whose headers are those of a config, and the names that
    it may lack.

    Args:
      every: what its headers say, if they have been read.

    Raises:
      ModelError: as `tensor_files.check_headers`.
    """
    infos = read_infos(folder) if every is None else _parameters(every)
    shapes, optional = _wanted(config, infos, folder)
    check_headers(folder, shapes, infos, optional=optional)
    return infos, optional


def dtypes(folder: pathlib.Path, config: LlamaConfig) -> dict[str, int]:
    """Number of tensors of each dtype, in files whose headers are those of a config.

    Raises:
      ModelError: as `read_params`, but for what only the tensors tell.
    """
    infos, _ = checked_infos(folder, config)
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


def tensor_shapes(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors, from the shapes of the module's parameters."""
    outline = _flat(abstract(config))
    for name, (path, layer, transposed) in places(config).items():
        shape = outline[path].shape[0 if layer is None else 1 :]
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


def common_dtype(dtypes: Iterable[np.dtype]) -> np.dtype:
    """The narrowest that holds all; float16 and bfloat16 have only float32."""
    kinds = set(dtypes)
    return kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)


@functools.lru_cache(maxsize=8)
def abstract(config: LlamaConfig) -> Params:
    """Shapes of the parameters."""
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
