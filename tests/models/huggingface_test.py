"""Hugging Face folders: every tensor goes in and comes out bit for bit."""

import json
import os

import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import pytest
import safetensors.numpy

from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.huggingface.folder import (
    ModelError,
    config_from_hf,
    load_config,
    load_pretrained,
    save_pretrained,
)


def assert_bit_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert found[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", families.ALL)
def test_round_trip_is_bit_equal(name, dtype, tmp_path):
    tensors = families.tensors_of(name, dtype)
    config, params = load_pretrained(
        families.write(tmp_path / "in", families.ALL[name], tensors)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    save_pretrained(tmp_path / "out", params, config)
    assert_bit_equal(families.read_all(tmp_path / "out"), tensors)
    found = load_config(tmp_path / "out")
    assert str(found.dtype).removeprefix("torch.") == dtype
    assert config_from_hf(found) == config
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]


def test_layout(tmp_path):
    """kernel[l, i, o] is weight[o, i] of layer l; scales and embeddings are as is."""
    tensors = families.tensors_of("qwen2")
    folder = families.write(tmp_path, families.ALL["qwen2"], tensors)
    _, params = load_pretrained(folder)
    layer = "model.layers.2"
    for tensor, leaf in (
        (f"{layer}.self_attn.k_proj.weight", params["layers"]["attention"]["k_proj"]),
        (f"{layer}.mlp.down_proj.weight", params["layers"]["down_proj"]),
    ):
        np.testing.assert_array_equal(leaf["kernel"][2], tensors[tensor].T)
    np.testing.assert_array_equal(
        params["layers"]["attention"]["q_proj"]["bias"][1],
        tensors["model.layers.1.self_attn.q_proj.bias"],
    )
    np.testing.assert_array_equal(
        params["embed_tokens"]["embedding"], tensors[weights.EMBEDDING]
    )


def test_sharded_in_and_out(tmp_path):
    tensors = families.tensors_of("llama2")
    names = sorted(tensors)
    families.write(
        tmp_path / "in", families.ALL["llama2"], tensors, a=names[:7], b=names[7:]
    )
    config, params = load_pretrained(tmp_path / "in")
    save_pretrained(tmp_path / "out", params, config, max_shard_bytes=20_000)
    assert_bit_equal(families.read_all(tmp_path / "out"), tensors)

    files = sorted((tmp_path / "out").glob("*.safetensors"))
    count = len(files)
    assert count > 2
    assert [file.name for file in files] == [
        f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)
    ]
    index = json.loads((tmp_path / "out" / weights.INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in tensors.values())
    for file in files:
        part = safetensors.numpy.load_file(file)
        assert sum(x.nbytes for x in part.values()) <= 20_000
        assert {index["weight_map"][name] for name in part} == {file.name}
    _, again = load_pretrained(tmp_path / "out")
    assert jax.tree.all(jax.tree.map(np.array_equal, again, params))


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path, mask, mode):
    folder = families.write(
        tmp_path / "in", families.ALL["llama2"], families.tensors_of("llama2")
    )
    config, params = load_pretrained(folder)
    before = os.umask(mask)
    try:
        save_pretrained(tmp_path / "out", params, config, max_shard_bytes=50_000)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == {mode}


def test_a_tensor_larger_than_a_shard_has_one_to_itself(tmp_path):
    tensors = families.tensors_of("llama2")
    config, params = load_pretrained(
        families.write(tmp_path / "in", families.ALL["llama2"], tensors)
    )
    save_pretrained(tmp_path / "out", params, config, max_shard_bytes=1)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == len(tensors)
    assert_bit_equal(families.read_all(tmp_path / "out"), tensors)


def test_dtype_is_cast_once(tmp_path):
    tensors = families.tensors_of("llama3")
    folder = families.write(tmp_path / "in", families.ALL["llama3"], tensors)
    half = {k: v.astype(jnp.bfloat16) for k, v in tensors.items()}
    config, params = load_pretrained(folder, dtype="bfloat16")  # when reading
    save_pretrained(tmp_path / "read", params, config)
    assert_bit_equal(families.read_all(tmp_path / "read"), half)
    config, params = load_pretrained(folder)
    save_pretrained(tmp_path / "written", params, config, dtype="bfloat16")
    assert_bit_equal(families.read_all(tmp_path / "written"), half)
    # bfloat16 widened to float32 and back is itself
    config, wide = load_pretrained(tmp_path / "written", dtype=jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {jnp.dtype("float32")}
    save_pretrained(tmp_path / "again", wide, config, dtype=jnp.bfloat16)
    assert_bit_equal(families.read_all(tmp_path / "again"), half)


def test_layers_of_two_dtypes_take_the_wider(tmp_path):
    tensors = families.tensors_of("llama2", "bfloat16")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].astype(np.float32) + 1e-4
    _, params = load_pretrained(
        families.write(tmp_path / "in", families.ALL["llama2"], tensors)
    )
    kernel = params["layers"]["up_proj"]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel[1], tensors[name].T)


def test_single_file_comes_before_an_index(tmp_path):
    """As in transformers, when a folder has both."""
    tensors = families.tensors_of("llama3")
    other = {name: tensor + 1 for name, tensor in tensors.items()}
    families.write(tmp_path, families.ALL["llama3"], other, a=list(other))
    families.write(tmp_path, families.ALL["llama3"], tensors)
    _, params = load_pretrained(tmp_path)
    np.testing.assert_array_equal(
        params["embed_tokens"]["embedding"], tensors[weights.EMBEDDING]
    )


def test_rotary_constants_of_older_exports_are_ignored(tmp_path):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    tensors = families.tensors_of("llama2")
    folder = families.write(tmp_path / "in", families.ALL["llama2"], tensors | extra)
    config, params = load_pretrained(folder)
    save_pretrained(tmp_path / "out", params, config)
    assert_bit_equal(families.read_all(tmp_path / "out"), tensors)


def test_tied_head_written_twice(tmp_path):
    tensors = families.tensors_of("llama3")
    twice = tensors | {weights.HEAD: tensors[weights.EMBEDDING]}
    config, params = load_pretrained(
        families.write(tmp_path / "in", families.ALL["llama3"], twice)
    )
    assert "lm_head" not in params
    save_pretrained(tmp_path / "out", params, config)
    assert_bit_equal(families.read_all(tmp_path / "out"), tensors)
    assert load_config(tmp_path / "out").tie_word_embeddings


@pytest.mark.parametrize("head", [np.ones((61, 32)), np.ones((60, 32))])
def test_tied_head_that_differs(tmp_path, head):
    tensors = families.tensors_of("llama3") | {weights.HEAD: head.astype(np.float32)}
    with pytest.raises(ModelError, match=r"'lm_head.weight' in .* (differs|has shape)"):
        load_pretrained(
            families.write(tmp_path / "in", families.ALL["llama3"], tensors)
        )


def test_untied_head_missing(tmp_path):
    tensors = families.tensors_of("llama2")
    del tensors[weights.HEAD]
    with pytest.raises(
        ModelError, match=r"lacks 'lm_head.weight', and its config.json does not tie"
    ):
        load_pretrained(
            families.write(tmp_path / "in", families.ALL["llama2"], tensors)
        )
