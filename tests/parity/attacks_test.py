"""What attacks compute, by PyTorch: hooks, autograd and generate of transformers."""

import jax
import model_families as families
import numpy as np
import pytest
import torch
import torch_models
import transformers

from ofmu_jax.attacks import looking, membership
from ofmu_jax.models.huggingface import folder
from ofmu_jax.models.llama import generation
from ofmu_jax.models.llama.model import Llama

IDS = np.array([[5, 9, 3, 17, 8, 4], [7, 7, 20, 11, 30, 2]], np.int32)
PLACES = np.array([[2, 3], [3, 4]], np.int32)  # predict the tokens behind them


@pytest.fixture(scope="module", params=["llama3", "qwen2"])
def models(request, tmp_path_factory):
    """Two of one family, theirs and ours."""
    found = []
    for seed in (0, 1):
        model, _ = torch_models.build(families.ALL[request.param], seed)
        saved = tmp_path_factory.mktemp("saved")
        model.save_pretrained(saved)
        found.append((model, *folder.load_pretrained(saved)))
    return found


def told():
    tokens = np.take_along_axis(IDS, PLACES + 1, axis=1)
    weights = np.full(PLACES.shape, 0.5, np.float32)
    return looking.Told(IDS, np.ones_like(IDS), PLACES, tokens, weights)


def log_probs(logits):
    """Mean log-probability of the tokens behind these places."""
    log_p = torch.log_softmax(logits, -1)
    rows = torch.arange(2)[:, None]
    places = torch.from_numpy(PLACES).long()
    tokens = torch.from_numpy(IDS).long()[rows, places + 1]
    return log_p[rows, places, tokens].mean(-1)


@torch.no_grad()
def test_lens_is_norm_and_head_of_each_hidden_state(models):
    model, config, params = models[0]
    ids = torch.from_numpy(IDS).long()
    states = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: states.append(out))
        for layer in model.model.layers
    ]
    model(ids)
    for hook in hooks:
        hook.remove()
    states = [x[0] if isinstance(x, tuple) else x for x in states]
    expected = [log_probs(model.lm_head(model.model.norm(x))) for x in states]
    found = looking.lens(config, params, told())
    np.testing.assert_allclose(found, torch.stack(expected), atol=1e-4)


@torch.no_grad()
def test_streams_of_another_model_are_put_in_by_a_hook(models):
    """As the published code does it: the output of a layer, in these places alone."""
    (full, config, params), (other, _, others) = models
    ids = torch.from_numpy(IDS).long()
    source = []
    for layer in other.model.layers:
        layer.register_forward_hook(lambda _m, _i, out: source.append(out))
    other(ids)
    source = [x[0] if isinstance(x, tuple) else x for x in source]
    where = torch.from_numpy(told().where_BxL)
    expected = []
    for layer, stream in zip(full.model.layers, source, strict=True):

        def put(_module, _inputs, out, stream=stream):
            own = out[0] if isinstance(out, tuple) else out
            mixed = torch.where(where[..., None], stream, own)
            return (mixed, *out[1:]) if isinstance(out, tuple) else mixed

        hook = layer.register_forward_hook(put)
        expected.append(log_probs(full(ids).logits))
        hook.remove()
    found = looking.exchanged(config, params, others, told(), told().where_BxL)
    np.testing.assert_allclose(found, torch.stack(expected), atol=1e-4)


def test_gradient_norm_is_the_mean_over_named_parameters(models):
    model, config, params = models[0]
    labels = np.where(np.arange(6) < 2, -100, IDS[:1])
    labels[0, -1] = -100
    model.zero_grad()
    logits = model(torch.from_numpy(IDS[:1]).long()).logits[0, :-1]
    kept = torch.from_numpy(labels[0, 1:]).long()
    torch.nn.functional.cross_entropy(logits, kept, ignore_index=-100).backward()
    norms = [x.grad.norm(p=2) for x in model.parameters() if x.grad is not None]
    apply = lambda params, ids, mask: Llama(config).apply({"params": params}, ids, mask)
    batch = {"input_ids": IDS[:1], "labels": labels, "attention_mask": np.ones((1, 6))}
    found = membership.grad_norm(apply, params, batch)
    assert found == pytest.approx(torch.stack(norms).mean().item(), rel=1e-4)


class Negated(transformers.LogitsProcessor):
    def __call__(self, input_ids, scores):
        return -scores


@torch.no_grad()
def test_least_likely_tokens_are_greedy_ones_of_negated_logits(models):
    model, config, params = models[0]
    tokens = model.generate(
        torch.from_numpy(IDS).long(),
        do_sample=False,
        max_new_tokens=6,
        eos_token_id=None,
        logits_processor=transformers.LogitsProcessorList([Negated()]),
    )
    found = generation.generate(
        Llama(config),
        jax.device_get(params),
        list(IDS),
        max_new_tokens=6,
        eos_token_ids=(),
        least_likely=True,
    )
    np.testing.assert_array_equal(np.stack(found), tokens[:, IDS.shape[1] :])
