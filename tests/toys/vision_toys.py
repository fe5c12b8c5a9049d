"""A tiny ResNet with a few images, and what vision methods are given."""

import functools

import jax
import numpy as np

from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.methods.vision import classifier, registry
from ofmu_jax.methods.vision.setting import Setting
from ofmu_jax.models import resnet

RNG = np.random.default_rng(0)
CONFIG = resnet.ResNetConfig("resnet8", 3, mean=(0.5,), std=(0.25,))
SIZE, BATCH = 4, 4
CONFIGS = {name: spec.config for name, spec in registry.METHODS.items()}
ONE_SHOT = ("influence", "ssd", "fisher")  # no updates


def images(count: int) -> Labelled:
    pixels = RNG.integers(0, 256, (count, SIZE, SIZE, 1)).astype(np.uint8)
    return Labelled(pixels, (np.arange(count) % 3).astype(np.int32))


FORGET, RETAIN = images(6), images(12)
SETTING = Setting(
    CONFIG,
    classifier.Prepare(num_classes=3, padding=0, flip=False),
    FORGET,
    RETAIN,
    BATCH,
    budget=50.0,
    forget_target=1.0,
)


@functools.cache
def variables() -> resnet.Variables:
    init = jax.jit(resnet.init_variables, static_argnums=(0, 2))
    return init(CONFIG, jax.random.key(0), SIZE)


def stacked(part: Labelled, forget: bool, stack: int = 1, step: int = 0):
    rows = np.arange(stack * BATCH).reshape(stack, BATCH) % len(part)
    return {
        "images": part.images[rows],
        "labels": part.labels[rows],
        "forget": np.full((stack, BATCH), forget),
        "draw": np.array([[7, step + i] for i in range(stack)], np.uint32),
    }
