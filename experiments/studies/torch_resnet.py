"""Those of `ofmu_jax.models.resnet` in PyTorch; `make parity` holds them to it."""

import torch  # pyrefly: ignore[missing-import]
from torch import nn  # pyrefly: ignore[missing-import]

from ofmu_jax.models import resnet


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
    """Pixels (B, C, H, W) of 0 … 255 to logits."""

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
        for name in ("mean", "std"):
            value = torch.tensor(getattr(config, name)).view(1, -1, 1, 1)
            self.register_buffer(name, value, persistent=False)

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
