"""Folders go through transformers and back bit for bit, and answer alike."""

import jax.numpy as jnp
import model_families as families
import numpy as np
import pytest
import torch
import torch_models
import transformers

from ofmu_jax.data.language.tokenizer import build_tokenizer
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.llama.generation import greedy_generate
from ofmu_jax.models.llama.model import Llama

WORDS = "Where was Ada born ? She was born in Lund , Sweden . What did she write"


def load_torch(folder, dtype="auto"):
    """The PyTorch model of a folder, which must lack nothing and have nothing over."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, output_loading_info=True
    )
    assert not any(info.values()), info
    return model.eval()


def assert_bit_equal(found, expected):
    found, expected = found.state_dict(), expected.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        raw = (x.contiguous().view(torch.uint8) for x in (found[name], tensor))
        assert torch.equal(*raw), name


@pytest.mark.parametrize("name", families.ALL)
@pytest.mark.parametrize(
    ("dtype", "sharded"),
    [(torch.float32, True), (torch.bfloat16, False), (torch.bfloat16, True)],
)
def test_round_trip_is_bit_equal(name, dtype, sharded, tmp_path):
    """PyTorch -> folder -> here -> folder -> PyTorch; config.json by us."""
    model, _ = torch_models.build(families.ALL[name], seed=3)
    model = model.to(dtype)
    model.save_pretrained(tmp_path / "in", max_shard_size="20KB" if sharded else "5GB")
    assert (tmp_path / "in" / "model.safetensors.index.json").exists() == sharded

    config, params = huggingface.load_pretrained(tmp_path / "in")
    size = 15_000 if sharded else 10**9
    huggingface.save_pretrained(tmp_path / "out", params, config, max_shard_bytes=size)
    assert (tmp_path / "out" / "model.safetensors.index.json").exists() == sharded
    again = load_torch(tmp_path / "out")
    assert again.dtype == dtype
    assert_bit_equal(again, model)
    if name != "mistral_no_window":  # written as the Llama that it is
        assert type(again) is type(model)
    ids, mask = families.input_ids(), families.MASKS["left"]
    seen = families.visible(mask)
    first = load_torch(tmp_path / "in")  # `model` has rounded rotary frequencies too
    np.testing.assert_array_equal(
        torch_models.logits(again, ids, mask)[seen],
        torch_models.logits(first, ids, mask)[seen],
    )


@pytest.mark.parametrize("name", families.FAMILIES)
def test_given_config_is_kept(name, tmp_path):
    model, _ = torch_models.build(families.ALL[name], seed=3)
    model.save_pretrained(tmp_path / "in")
    config, params = huggingface.load_pretrained(tmp_path / "in", dtype="float32")
    given = huggingface.load_config(tmp_path / "in")
    huggingface.save_pretrained(
        tmp_path / "out", params, config, None, given, dtype="float32"
    )
    again = load_torch(tmp_path / "out")
    assert_bit_equal(again, model)
    left, right = again.config.to_dict(), model.config.to_dict()
    for ours in (left, right):
        ours.pop("_name_or_path", None)
    assert left == right


@pytest.mark.parametrize("name", families.FAMILIES)
def test_casts_equal_pytorchs(name, tmp_path):
    """float32 to bfloat16 and float16, when reading and when writing."""
    model, _ = torch_models.build(families.ALL[name], seed=3)
    model.save_pretrained(tmp_path / "in")
    config, params = huggingface.load_pretrained(tmp_path / "in")
    for dtype in ("bfloat16", "float16"):
        expected = load_torch(tmp_path / "in", getattr(torch, dtype))
        _, cast = huggingface.load_pretrained(tmp_path / "in", dtype)
        huggingface.save_pretrained(tmp_path / f"read_{dtype}", cast, config)
        huggingface.save_pretrained(
            tmp_path / f"write_{dtype}", params, config, dtype=jnp.dtype(dtype)
        )
        for form in ("read", "write"):
            assert_bit_equal(load_torch(tmp_path / f"{form}_{dtype}"), expected)


def test_why_a_tied_head_that_differs_is_refused(tmp_path):
    """transformers gives such a model the second head: leaving it out changes it."""
    _, shapes = torch_models.build(families.FAMILIES["llama3"], seed=3)
    tensors = families.random_tensors(shapes, seed=3)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    folder = families.write(tmp_path / "in", families.FAMILIES["llama3"], tensors)
    found = transformers.AutoModelForCausalLM.from_pretrained(folder)
    head = found.state_dict()["lm_head.weight"].numpy()
    np.testing.assert_array_equal(head, tensors["lm_head.weight"])
    with pytest.raises(huggingface.ModelError, match="differs"):
        huggingface.load_pretrained(folder)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_exported_folder_gives_the_same_answers(name, tmp_path):
    """By transformers alone: its tokenizer, model and generation settings."""
    tokenizer = build_tokenizer([WORDS], vocab_size=300)
    settings = families.FAMILIES[name] | {"vocab_size": len(tokenizer)}
    _, shapes = torch_models.build(settings, seed=5)
    tensors = families.random_tensors(shapes, seed=5)
    folder = families.write(tmp_path / "in", settings, tensors)
    config, params = huggingface.load_pretrained(folder)
    huggingface.save_pretrained(tmp_path / "out", params, config, tokenizer)

    prompts = ["Where was Ada", "What did she write in Lund ?", "Ågren ∇ ?"]
    # transformers 5 takes its Qwen2Tokenizer for this type, whatever the folder says.
    reader = transformers.PreTrainedTokenizerFast if name == "qwen2" else None
    theirs, expected = answer_in_torch(tmp_path / "out", prompts, reader)
    ours = huggingface.load_tokenizer(tmp_path / "out")
    batch = ours(prompts, return_tensors="np", padding=True, padding_side="left")
    tokens = greedy_generate(
        Llama(config),
        params,
        batch["input_ids"],
        batch["attention_mask"],
        max_new_tokens=16,
        eos_token_ids=(ours.eos_token_id,),
        pad_token_id=ours.pad_token_id,
    )
    np.testing.assert_array_equal(tokens, theirs)
    assert ours.batch_decode(tokens, skip_special_tokens=True) == expected
    assert len(set(expected)) == len(prompts)


def answer_in_torch(folder, prompts, reader=None):
    """(tokens, texts) with nothing but transformers, as a user of the folder would."""
    tokenizer = (reader or transformers.AutoTokenizer).from_pretrained(folder)
    model = load_torch(folder)
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    length = batch["input_ids"].shape[1]
    found = model.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=16
    )[:, length:]
    texts = tokenizer.batch_decode(found, skip_special_tokens=True)
    padding = (0, 16 - found.shape[1])
    found = torch.nn.functional.pad(found, padding, value=tokenizer.pad_token_id)
    return found.numpy(), texts
