"""Residual networks, live against a small PyTorch implementation with equal weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ofmu_jax.models import resnet

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    """A residual block; ``widths`` of its convolutions, kernels 3 or 1, 3, 1."""

    def __init__(self, fan_in, widths, stride, plain):
        super().__init__()
        kernels = (1, 3, 1) if len(widths) == 3 else (3, 3)
        strided = 1 if len(widths) == 3 else 0
        self.plain, self.stride, self.layers = plain, stride, nn.ModuleList()
        channels = fan_in
        for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            step = stride if i == strided else 1
            conv = nn.Conv2d(channels, width, kernel, step, kernel // 2, bias=False)
            self.layers.append(nn.Sequential(conv, nn.BatchNorm2d(width)))
            channels = width
        self.shortcut = None
        if (stride != 1 or fan_in != channels) and not plain:
            conv = nn.Conv2d(fan_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))
        self.more = channels - fan_in

    def forward(self, x):
        y = x
        for i, layer in enumerate(self.layers):
            y = layer(y)
            y = y if i == len(self.layers) - 1 else torch.relu(y)
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.more:
            x = x[:, :, :: self.stride, :: self.stride]
            half = self.more // 2
            x = nn.functional.pad(x, (0, 0, 0, 0, half, self.more - half))
        return torch.relu(x + y)


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        shape = resnet.SHAPES[config.name]
        width = shape.widths[0]
        conv = nn.Conv2d(len(config.mean), width, 3, 1, 1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(width))
        self.blocks = nn.ModuleDict()
        channels = width
        for stage, (count, width) in enumerate(
            zip(shape.blocks, shape.widths, strict=True)
        ):
            for block in range(count):
                widths = [width, width]
                if shape.block == "bottleneck":
                    widths = [width, width, 4 * width]
                stride = 2 if stage and not block else 1
                plain = shape.block == "plain_shortcut"
                made = Block(channels, widths, stride, plain)
                self.blocks[f"stage{stage}_block{block}"] = made
                channels = widths[-1]
        self.head = nn.Linear(channels, config.num_classes)
        self.mean = torch.tensor(config.mean).view(1, -1, 1, 1)
        self.std = torch.tensor(config.std).view(1, -1, 1, 1)

    def forward(self, x):
        x = torch.relu(self.stem((x / 255 - self.mean) / self.std))
        for block in self.blocks.values():
            x = block(x)
        return self.head(x.mean((2, 3)))

    def layers(self):
        """Flax's names of (convolution, BatchNorm) pairs, as (block, suffix)."""
        yield (None, "_stem"), self.stem
        for name, block in self.blocks.items():
            for number, layer in enumerate(block.layers, 1):
                yield (name, str(number)), layer
            if block.shortcut is not None:
                yield (name, "_shortcut"), block.shortcut


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
