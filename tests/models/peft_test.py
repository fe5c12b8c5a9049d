"""Adapters for PEFT, put together by hand; with PEFT itself: tests/parity."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nf4_toys import CONFIG, llama
from safetensors.numpy import load_file

from ofmu_jax.methods import Unmerged
from ofmu_jax.models.huggingface import peft, writing
from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.adapters import beside, merging

LAYERS = "base_model.model.model.layers"


def random_adapters(part):
    adapters, _ = part.split(llama(), jax.random.key(1))
    random = lambda x: jax.random.normal(jax.random.key(2), x.shape).astype(x.dtype)
    return jax.tree.map(random, adapters)


@pytest.mark.parametrize("quantize", [True, False])
def test_weights_and_adapter_give_what_the_merged_export_has(quantize, tmp_path):
    base = nf4.quantized(llama()) if quantize else llama()
    part = Unmerged(2, alpha=3.0)
    params = part.merge(random_adapters(part), base)
    adapters = beside(params, part.scale)
    peft.save_adapter(tmp_path / "a", adapters, CONFIG, alpha=3.0, base="m", card="x")
    sizes = {"max_shard_bytes": 10**9, "dtype": "float32"}
    for name, tree in {"base": merging(base), "merged": merging(params)}.items():
        (tmp_path / name).mkdir()
        writing.write_params(tmp_path / name, tree, CONFIG, **sizes)
    read = lambda name: load_file(tmp_path / name / "model.safetensors")
    before, after = read("base"), read("merged")
    factors = load_file(tmp_path / "a" / peft.WEIGHTS)
    for name, weight in before.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{module}.lora_A.weight" in factors:
            a, b = (factors.pop(f"{module}.lora_{kind}.weight") for kind in "AB")
            weight = weight + 3.0 / 2 * b @ a
        np.testing.assert_allclose(after[name], weight, atol=1e-5)
    assert not factors  # each was used


def test_the_config_is_what_peft_reads(tmp_path):
    part = Unmerged(2, 4.0, "(q|down)_proj/kernel$", "bfloat16")
    adapters = random_adapters(part)
    given = {"alpha": 4.0, "base": "org/model"}
    peft.save_adapter(tmp_path / "a", adapters, CONFIG, **given)
    assert json.loads((tmp_path / "a" / peft.CONFIG).read_text()) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "org/model",
        "r": 2,
        "lora_alpha": 4.0,
        "lora_dropout": 0.0,
        "target_modules": ["down_proj", "q_proj"],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    found = load_file(tmp_path / "a" / peft.WEIGHTS)
    assert found.keys() == {
        f"{LAYERS}.{layer}.{module}.lora_{kind}.weight"
        for layer in (0, 1)
        for module in ("self_attn.q_proj", "mlp.down_proj")
        for kind in "AB"
    }
    a = found[f"{LAYERS}.1.mlp.down_proj.lora_A.weight"]
    assert a.shape == (2, 64) and a.dtype == jnp.bfloat16
    kernel = adapters["layers"]["down_proj"]["kernel"]
    np.testing.assert_array_equal(a, kernel.a[1].T)
    with pytest.raises(FileExistsError):
        peft.save_adapter(tmp_path / "a", adapters, CONFIG, **given)


def test_only_kernels_can_have_an_adapter_beside_them():
    with pytest.raises(ValueError, match="embed_tokens/embedding is no kernel"):
        Unmerged(2, targets="embed|_proj").split(llama())
