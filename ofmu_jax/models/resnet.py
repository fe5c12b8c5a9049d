"""Residual networks for small images, with BatchNorm statistics as explicit state.

`resnet18` and `resnet50` are torchvision's with the CIFAR stem of the unlearning
literature (one 3×3 convolution of stride 1, no max-pool); `resnet20`, `resnet56` and
the smaller `resnet8` are the CIFAR networks of He et al. (arXiv 1512.03385, section
4.2: 6n + 2 layers, shortcuts without parameters). Pixels come in as 0 … 255 and are
normalised inside the network.

In training mode a network normalises with the statistics of its batch and does not
look at the running averages, so a loss in that mode is a function of parameters and
batch alone. The averages move only where the caller keeps what `apply` returns.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ofmu_jax.choices import Dtype

Params = Any
Stats = Any  # tree of {"mean": (C,), "var": (C,)}, one a BatchNorm

DECAY = 0.9  # of the running averages; PyTorch calls it momentum 0.1
EPSILON = 1e-5

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Variables(NamedTuple):
    """A classifier as it is trained, checked and saved."""

    params: Params
    batch_stats: Stats


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Architecture of a network and the normalisation of its input."""

    name: str = "resnet18"
    num_classes: int = 10
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)  # of pixels in 0 … 1
    dtype: Dtype = "float32"  # of the computation; statistics and logits are float32

    def __post_init__(self) -> None:
        if self.name not in SHAPES:
            raise ValueError(
                f"model {self.name!r} is unknown; choose one of {', '.join(SHAPES)}."
            )
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}; give at least 2.")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                f"mean {self.mean} and std {self.std} must have one entry per channel, "
                "std above 0."
            )


class Shape(NamedTuple):
    """What tells one network from another."""

    blocks: tuple[int, ...]  # in each stage; all but the first halve the image
    widths: tuple[int, ...]  # channels of each stage
    block: str  # "basic", "bottleneck" or "plain_shortcut"


SHAPES: Mapping[str, Shape] = {
    "resnet18": Shape((2, 2, 2, 2), (64, 128, 256, 512), "basic"),
    "resnet50": Shape((3, 4, 6, 3), (64, 128, 256, 512), "bottleneck"),
    "resnet8": Shape((1, 1, 1), (16, 32, 64), "plain_shortcut"),
    "resnet20": Shape((3, 3, 3), (16, 32, 64), "plain_shortcut"),
    "resnet56": Shape((9, 9, 9), (16, 32, 64), "plain_shortcut"),
}


class BatchNorm(nn.Module):
    """Batch normalisation as PyTorch has it: over all axes but the last, ε inside.

    In training mode it normalises with the batch's mean and biased variance and
    *writes* the batch's mean and unbiased variance to the collection ``batch_stats``;
    in evaluation mode it *reads* them there. Averaging the two is left to `apply`.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        size = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (size,))
        bias = self.param("bias", nn.initializers.zeros, (size,))
        kept_mean = self.variable("batch_stats", "mean", jnp.zeros, (size,))
        kept_var = self.variable("batch_stats", "var", jnp.ones, (size,))
        mean, var = kept_mean.value, kept_var.value
        if train:
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            axes = tuple(range(x.ndim - 1))
            count = wide.size // size
            mean = jnp.mean(wide, axes)
            var = jnp.mean(jnp.square(wide - mean), axes)
            if not self.is_initializing():
                kept_mean.value = mean
                kept_var.value = var * (count / max(count - 1, 1))
        factor = scale * jax.lax.rsqrt(var + EPSILON)
        return ((x - mean) * factor + bias).astype(x.dtype)


def _layer(x, train: bool, width: int, size: int, stride: int, dtype: str, name: str):
    """A convolution without bias and its `BatchNorm`, named conv… and bn…"""
    convolution = nn.Conv(
        width,
        (size, size),
        stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=_kaiming,
        dtype=jnp.dtype(dtype),
        name=f"conv{name}",
    )
    return BatchNorm(name=f"bn{name}")(convolution(x), train)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    width: int
    stride: int
    plain_shortcut: bool  # subsample and pad with zero channels: no parameters
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.relu(_layer(x, train, self.width, 3, self.stride, self.dtype, "1"))
        y = _layer(y, train, self.width, 3, 1, self.dtype, "2")
        if x.shape != y.shape and self.plain_shortcut:
            x = x[:, :: self.stride, :: self.stride]
            more = self.width - x.shape[-1]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
        elif x.shape != y.shape:
            x = _layer(x, train, self.width, 1, self.stride, self.dtype, "_shortcut")
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride, as torchvision has it) and 1×1 to 4 × the width."""

    width: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        wide = 4 * self.width
        y = nn.relu(_layer(x, train, self.width, 1, 1, self.dtype, "1"))
        y = nn.relu(_layer(y, train, self.width, 3, self.stride, self.dtype, "2"))
        y = _layer(y, train, wide, 1, 1, self.dtype, "3")
        if x.shape != y.shape:
            x = _layer(x, train, wide, 1, self.stride, self.dtype, "_shortcut")
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Images (B, H, W, C) of 0 … 255 to logits (B, num_classes) in float32 or wider."""

    config: ResNetConfig

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        config, shape = self.config, SHAPES[self.config.name]
        if images.ndim != 4 or images.shape[-1] != len(config.mean):
            raise ValueError(
                f"images have shape {images.shape}; the network takes (B, H, W, "
                f"{len(config.mean)})."
            )
        x = normalised(images, config)
        x = nn.relu(_layer(x, train, shape.widths[0], 3, 1, config.dtype, "_stem"))
        stages = zip(shape.blocks, shape.widths, strict=True)
        for stage, (blocks, width) in enumerate(stages):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage}_block{block}"
                if shape.block == "bottleneck":
                    layer = Bottleneck(width, stride, config.dtype, name=name)
                else:
                    plain = shape.block == "plain_shortcut"
                    layer = BasicBlock(width, stride, plain, config.dtype, name=name)
                x = layer(x, train)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        x = jnp.mean(x.astype(wide), (1, 2))
        head = nn.Dense(
            config.num_classes,
            kernel_init=_torch_linear,
            bias_init=_uniform_bias(x.shape[-1]),
            name="head",
        )
        return head(x)


def _uniform_bias(fan_in: int):
    limit = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -limit, limit
    )


def normalised(images: jax.Array, config: ResNetConfig) -> jax.Array:
    """(pixels / 255 − mean) / std per channel, in the dtype of the computation."""
    dtype = jnp.dtype(config.dtype)
    if jnp.issubdtype(images.dtype, jnp.floating):
        dtype = jnp.promote_types(dtype, images.dtype)
    wide = images.astype(jnp.promote_types(dtype, jnp.float32)) / 255
    return ((wide - jnp.array(config.mean)) / jnp.array(config.std)).astype(dtype)


def init_variables(
    config: ResNetConfig, key: jax.Array, image_size: int = 32
) -> Variables:
    """Fresh parameters (kaiming, fan out) and statistics (mean 0, variance 1).

    >>> config = ResNetConfig("resnet20")
    >>> variables = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    >>> sum(x.size for x in jax.tree.leaves(variables.params))  # 0.27 M in the paper
    269722
    """
    images = jnp.zeros((1, image_size, image_size, len(config.mean)))
    made = ResNet(config).init(key, images, False)
    return Variables(made["params"], made["batch_stats"])


def apply(
    config: ResNetConfig,
    params: Params,
    batch_stats: Stats,
    images: jax.Array,
    train: bool = False,
) -> tuple[jax.Array, Stats]:
    """Logits (B, num_classes), and the running averages after this batch.

    Args:
      batch_stats: running averages; read in evaluation mode, averaged with those of
        the batch (0.9 old + 0.1 batch) in training mode.
      images: (B, H, W, C), pixels 0 … 255, of any dtype.
      train: normalise with the statistics of the batch.

    Returns:
      Logits, and new statistics (in evaluation mode those that were given).
    """
    variables = {"params": params, "batch_stats": batch_stats}
    if not train:
        logits = ResNet(config).apply(variables, images, False)
        return cast(jax.Array, logits), batch_stats
    logits, found = ResNet(config).apply(variables, images, True, mutable="batch_stats")
    average = lambda old, new: DECAY * old + (1 - DECAY) * new
    moved = jax.tree.map(average, batch_stats, found["batch_stats"])
    return cast(jax.Array, logits), moved


def predict(config: ResNetConfig, variables: Variables, images: jax.Array) -> jax.Array:
    """Logits in evaluation mode."""
    return apply(config, variables.params, variables.batch_stats, images)[0]
