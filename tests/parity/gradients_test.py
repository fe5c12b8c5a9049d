"""∇Φ and ∇F by PyTorch's autograd, and ours, of the same weights and rows."""

import functools

import jax
import model_families as families
import numpy as np
import pytest
import torch
import torch_models

from experiments.studies import torch_times
from experiments.studies.shapes import forward
from ofmu_jax import bilevel
from ofmu_jax.losses import likelihood
from ofmu_jax.models.huggingface import folder, weights

BETA, RHO = 0.7, 0.3
BEYOND = {"inner": 1e-4, "outer": 1e-4}  # of the norm


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    model, _ = torch_models.build(families.ALL["llama2"], 0)
    model.set_attn_implementation("eager")  # fused kernels are once differentiable
    saved = tmp_path_factory.mktemp("saved")
    model.save_pretrained(saved)
    config, params = folder.load_pretrained(saved)
    rng = np.random.default_rng(0)
    rows = {p: rng.integers(config.vocab_size, size=(2, 8)) for p in ("f", "r")}
    return model, config, params, rows


def ours(function, config, params, rows, **options):
    loss = functools.partial(likelihood.cross_entropy, forward(config))

    def of(ids):
        batch = {"input_ids": ids, "labels": ids, "attention_mask": np.ones_like(ids)}
        return lambda theta: loss(theta, batch)

    found = jax.jit(
        lambda p: function(p, of(rows["f"]), of(rows["r"]), beta=BETA, **options)
    )(params)
    return {
        name: as_stored(functools.reduce(dict.get, path, found), layer, transposed)
        for name, (path, layer, transposed) in weights.places(config).items()
    }


def as_stored(leaf, layer, transposed):
    one = np.asarray(leaf if layer is None else leaf[layer], np.float64)
    return one.T if transposed else one


@pytest.mark.parametrize("which", BEYOND)
def test_gradients_agree(both, which):
    model, config, params, rows = both
    names, tensors = zip(*model.named_parameters(), strict=True)
    loss = functools.partial(torch_times.mean_nll, model)
    ids = [torch.from_numpy(rows[part]) for part in ("f", "r")]
    if which == "inner":
        theirs = torch_times.inner_gradient(loss, tensors, *ids, BETA)
        mine = ours(bilevel.inner_gradient, config, params, rows)
    else:
        theirs = torch_times.outer_gradient(loss, tensors, *ids, BETA, RHO)
        mine = ours(bilevel.outer_gradient, config, params, rows, rho=RHO)
    apart = square = 0.0
    for name, gradient in zip(names, theirs, strict=True):
        value = gradient.numpy().astype(np.float64)
        apart += float(np.sum((mine[name] - value) ** 2))
        square += float(np.sum(value**2))
    assert apart**0.5 <= BEYOND[which] * square**0.5
