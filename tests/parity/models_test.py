"""Logits and greedy generation, live, against transformers' PyTorch models."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import model_families as families
import numpy as np
import pytest
import torch
import torch_models
import transformers

from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.llama.generation import greedy_generate
from ofmu_jax.models.llama.model import Llama


class Pair(NamedTuple):
    """A PyTorch model, and the same in Flax: read from what transformers saved."""

    torch: torch.nn.Module
    flax: Llama
    params: dict
    folder: pathlib.Path
    forward: Callable  # (ids, mask, positions) -> logits, compiled once


@pytest.fixture(scope="module", params=families.ALL)
def pair(request, tmp_path_factory):
    model, _, _ = torch_models.build_decided(families.ALL[request.param])
    folder = tmp_path_factory.mktemp("saved") / request.param
    model.save_pretrained(folder)
    config, params = huggingface.load_pretrained(folder)
    forward = jax.jit(functools.partial(Llama(config).apply, {"params": params}))
    return Pair(model, Llama(config), params, folder, forward)


def test_tensor_names_and_shapes(pair):
    model, module = pair.torch, pair.flax
    expected = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    if module.config.tie_word_embeddings:
        del expected["lm_head.weight"]
    assert dict(weights.tensor_shapes(module.config)) == expected


POSITIONS = np.broadcast_to(np.arange(families.LENGTH), (2, families.LENGTH))
LEFT = families.MASKS["left"]
CASES = {name: (mask, POSITIONS) for name, mask in families.MASKS.items()}
CASES["far"] = (LEFT, np.maximum(np.cumsum(LEFT, -1) - 1, 0) + 40)


@pytest.mark.parametrize("case", CASES)
def test_logits(pair, case):
    """Key masks of every kind, and positions that are not those of the columns."""
    mask, positions = CASES[case]
    ids, seen = families.input_ids(), families.visible(mask)
    np.testing.assert_allclose(
        pair.forward(ids, mask, positions)[seen],
        torch_models.logits(pair.torch, ids, mask, positions)[seen],
        atol=1e-4,
        rtol=0,
    )


def test_bfloat16_logits_are_as_near_as_pytorchs(pair):
    """To float32: the error of our bfloat16 is at most a little more than theirs."""
    model, module, params = pair[:3]
    ids, mask = families.input_ids(), families.MASKS["full"]
    exact = torch_models.logits(model, ids, mask)
    half = transformers.AutoModelForCausalLM.from_pretrained(
        pair.folder, dtype=torch.bfloat16
    )
    theirs = torch_models.logits(half, ids, mask)
    module = Llama(dataclasses.replace(module.config, dtype="bfloat16"))
    ours = jax.jit(module.apply)({"params": params}, ids, mask)
    error, expected = (np.sqrt(np.mean((x - exact) ** 2)) for x in (ours, theirs))
    assert 0 < error < 1.5 * expected


def test_greedy_generation(pair):
    """Left-padded rows: without an end, and each ended by its own token."""
    model, module, params = pair[:3]
    ids, mask = families.input_ids(), LEFT
    free, lead = torch_models.generate(model, ids, mask, ())
    assert lead > torch_models.MIN_LEAD
    ends = torch_models.end_tokens(free)
    ended, _ = torch_models.generate(model, ids, mask, ends)
    never = (-1, -1)  # the same shape: one compilation
    for expected, eos_token_ids in ((free, never), (ended, ends)):
        tokens = greedy_generate(
            module,
            params,
            ids,
            mask,
            max_new_tokens=families.NEW_TOKENS,
            eos_token_ids=eos_token_ids,
            pad_token_id=model.config.pad_token_id,
        )
        np.testing.assert_array_equal(tokens, expected)
