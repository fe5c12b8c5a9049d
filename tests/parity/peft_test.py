"""PEFT loads an exported adapter over the same weights and answers as we do."""

import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import peft
import pytest
import torch_models
import transformers

from ofmu_jax.methods import Unmerged
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface.peft import save_adapter
from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.adapters import beside, merging
from ofmu_jax.models.llama.model import Llama

SIZES = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}  # blocks of 64


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("name", ["llama3", "qwen2"])
def test_peft_answers_alike(name, quantize, tmp_path):
    """Beside float32 weights; of NF4, beside the dense ones that it stands for."""
    config = families.ALL[name] | SIZES
    if name == "qwen2":  # has no other size of a head
        config.pop("head_dim")
    torch_models.build(config, seed=3)[0].save_pretrained(tmp_path / "given")
    config, base = huggingface.load_pretrained(tmp_path / "given", dtype="float32")
    if quantize:
        base = nf4.quantized(base)
    part = Unmerged(3, alpha=4.0, targets="(q|v|up|down)_proj/kernel$")
    adapters, _ = part.split(base, jax.random.key(0))
    adapters = jax.tree.map(lambda x: x + 0.05, adapters)
    params = part.merge(adapters, base)
    huggingface.save_pretrained(tmp_path / "base", merging(base), config)
    save_adapter(
        *(tmp_path / "adapter", beside(params, part.scale), config),
        alpha=part.alpha,
        base=str(tmp_path / "base"),
    )

    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    ids, mask = families.input_ids(), families.MASKS["full"]
    before = torch_models.logits(model.eval(), ids, mask)
    model = peft.PeftModel.from_pretrained(model, tmp_path / "adapter")
    found = torch_models.logits(model.eval(), ids, mask)
    expected = Llama(config).apply({"params": params}, ids, jnp.asarray(mask))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - before).max() > 0.01
    again = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    np.testing.assert_array_equal(torch_models.logits(again.eval(), ids, mask), found)
