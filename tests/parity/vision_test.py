"""Residual networks, live against a small PyTorch implementation with equal weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ofmu_jax.models import resnet

torch = pytest.importorskip("torch")
from experiments.studies.torch_resnet import Network  # noqa: E402

nn = torch.nn


def load(network, variables):
    """Copies Flax variables into the PyTorch network."""
    tensor = lambda x: torch.tensor(np.array(x))
    at = lambda tree, block: tree if block is None else tree[block]
    with torch.no_grad():
        for (block, suffix), (conv, norm) in network.layers():
            params = at(variables.params, block)
            stats = at(variables.batch_stats, block)[f"bn{suffix}"]
            kernel = params[f"conv{suffix}"]["kernel"]
            conv.weight.copy_(tensor(jnp.transpose(kernel, (3, 2, 0, 1))))
            norm.weight.copy_(tensor(params[f"bn{suffix}"]["scale"]))
            norm.bias.copy_(tensor(params[f"bn{suffix}"]["bias"]))
            norm.running_mean.copy_(tensor(stats["mean"]))
            norm.running_var.copy_(tensor(stats["var"]))
        head = variables.params["head"]
        network.head.weight.copy_(tensor(head["kernel"].T))
        network.head.bias.copy_(tensor(head["bias"]))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "resnet56"])
def test_logits_gradients_and_running_averages_are_pytorchs(name):
    rng = np.random.default_rng(0)
    config = resnet.ResNetConfig(name, 7)
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    variables = init(config, jax.random.key(0), 16)
    pixels = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.float32)
    labels = rng.integers(0, 7, 4)
    network = Network(config)
    load(network, variables)
    forward = jax.jit(resnet.apply, static_argnums=(0, 4))
    x = torch.tensor(pixels.transpose(0, 3, 1, 2))

    network.eval()
    logits, _ = forward(config, *variables, pixels, False)
    expected = network(x).detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())

    network.train()
    answer = network(x)
    nn.functional.cross_entropy(answer, torch.tensor(labels)).backward()
    logits, stats = forward(config, *variables, pixels, True)
    found = answer.detach().numpy()
    np.testing.assert_allclose(logits, found, atol=2e-3 * np.abs(found).max())

    def loss(params):
        out, _ = resnet.apply(config, params, variables.batch_stats, pixels, True)
        return -jnp.mean(jax.nn.log_softmax(out)[jnp.arange(4), labels])

    slopes = jax.jit(jax.grad(loss))(variables.params)
    expected = network.head.weight.grad.numpy().T
    np.testing.assert_allclose(
        slopes["head"]["kernel"], expected, atol=5e-3 * np.abs(expected).max()
    )
    expected = network.stem[0].weight.grad.numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(
        slopes["conv_stem"]["kernel"], expected, atol=2e-2 * np.abs(expected).max()
    )
    for (block, suffix), (_, norm) in network.layers():
        kept = (stats if block is None else stats[block])[f"bn{suffix}"]
        # Deep in the network float32 differs in the order of its sums.
        for key, tensor in (("mean", norm.running_mean), ("var", norm.running_var)):
            value = tensor.numpy()
            np.testing.assert_allclose(
                kept[key], value, rtol=5e-3, atol=5e-3 * np.abs(value).max()
            )
