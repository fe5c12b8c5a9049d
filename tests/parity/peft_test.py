"""PEFT and bitsandbytes, from what we write, answer as we do."""

import bitsandbytes.functional
import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import peft
import pytest
import torch
import torch_models
import transformers

from ofmu_jax.methods import Unmerged
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface.peft import save_adapter
from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.adapters import beside, merging
from ofmu_jax.models.llama.model import Llama

SIZES = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}  # blocks of 64


def write_given(name, folder):
    """A folder of transformers' own, of sizes that blocks divide."""
    config = families.ALL[name] | SIZES
    if name == "qwen2":  # has no other size of a head
        config.pop("head_dim")
    torch_models.build(config, seed=3)[0].save_pretrained(folder)
    return huggingface.load_pretrained(folder, dtype="float32")


def write_adapter(folder, base, config, name):
    """A random adapter for PEFT, and the parameters with it."""
    part = Unmerged(3, alpha=4.0, targets="(q|v|up|down)_proj/kernel$")
    adapters, _ = part.split(base, jax.random.key(0))
    adapters = jax.tree.map(lambda x: x + 0.05, adapters)
    params = part.merge(adapters, base)
    found = beside(params, part.scale)
    save_adapter(folder, found, config, alpha=part.alpha, base=str(name))
    return params


def ours(params, config):
    ids, mask = families.input_ids(), jnp.asarray(families.MASKS["full"])
    return Llama(config).apply({"params": params}, ids, mask)


def theirs(model):
    ids, mask = families.input_ids(), families.MASKS["full"]
    return torch_models.logits(model.eval(), ids, mask)


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("name", ["llama3", "qwen2"])
def test_peft_answers_alike(name, quantize, tmp_path):
    """Beside float32 weights; of NF4, beside the dense ones that it stands for."""
    config, base = write_given(name, tmp_path / "given")
    if quantize:
        base = nf4.quantized(base)
    huggingface.save_pretrained(tmp_path / "base", merging(base), config)
    there = tmp_path / "adapter"
    params = write_adapter(there, base, config, tmp_path / "base")

    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    before = theirs(model)
    found = theirs(peft.PeftModel.from_pretrained(model, there))
    np.testing.assert_allclose(found, ours(params, config), atol=1e-4)
    assert np.abs(found - before).max() > 0.01
    again = peft.AutoPeftModelForCausalLM.from_pretrained(there)
    np.testing.assert_array_equal(theirs(again), found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_codes_and_scales_are_those_of_bitsandbytes(dtype):
    """It packs the rows of a weight (out, in), we the columns of a kernel."""
    w = 0.03 * jax.random.normal(jax.random.key(0), (192, 128)).astype(dtype)
    weight = torch.tensor(np.array(w.T.astype(jnp.float32))).to(getattr(torch, dtype))
    codes, state = bitsandbytes.functional.quantize_4bit(
        weight, blocksize=nf4.BLOCK, quant_type="nf4"
    )
    q = nf4.quantize(w)
    np.testing.assert_array_equal(state.code.numpy(), nf4.VALUES)
    np.testing.assert_array_equal(state.absmax.numpy().reshape(128, -1).T, q.scales)
    np.testing.assert_array_equal(codes.numpy().reshape(128, -1).T, q.codes)
    dense = bitsandbytes.functional.dequantize_4bit(codes, state).float().numpy()
    found = nf4.dequantize(q, dtype).astype(jnp.float32)
    np.testing.assert_array_equal(dense.T, found)
