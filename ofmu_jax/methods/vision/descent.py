"""Vision methods that descend one loss: training, FT, ℓ1-sparse and gradient ascent.

Rates of all vision methods are those of ResNet-18 on CIFAR-10 within the ranges of the
SalUn protocol (arXiv 2310.12508); another network or data set wants its own. The text
after each field of a config is its help.
"""

import dataclasses
import functools
from typing import Literal

import jax.numpy as jnp
import optax

from ofmu_jax.bounds import NotNegative, Positive
from ofmu_jax.losses import vision
from ofmu_jax.methods.base import Range, Spec
from ofmu_jax.methods.rules.weighted import descend
from ofmu_jax.methods.vision.classifier import add_l1, logits_fn, sgd, vision_method
from ofmu_jax.methods.vision.setting import Plan, Setting

Part = Literal["forget", "retain"]
# The ranges of the SalUn protocol; those of ascent and of the boundary methods reach
# higher, as small networks need larger rates.
RATE = {"learning_rate": Range(1e-3, 1e-1, log=True)}
SMALL_RATE = {"learning_rate": Range(1e-5, 1e-2, log=True)}


@dataclasses.dataclass(frozen=True)
class Descent:
    """What every method that descends a loss has: SGD with momentum 0.9."""

    learning_rate: Positive = 0.01
    weight_decay: NotNegative = 5e-4

    def sgd(self, *before: optax.GradientTransformation):
        """The optimizer."""
        return sgd(self.learning_rate, self.weight_decay, *before)


@dataclasses.dataclass(frozen=True)
class FineTune(Descent):
    """FT: cross-entropy on retain images."""


@dataclasses.dataclass(frozen=True)
class L1Sparse(Descent):
    """FT with α (1 − progress) ‖θ‖₁."""

    alpha: NotNegative = 5e-5
    """α at the start; it falls to 0 over the budget."""


@dataclasses.dataclass(frozen=True)
class GradientAscent(Descent):
    """GA: cross-entropy on forget images, upwards."""

    learning_rate: Positive = 5e-4


def descent(setting: Setting, optimizer, loss, part: Part) -> Plan:
    """Minimises ``loss`` of (logits_fn, params, batch) on the batches of a part."""
    build = lambda context: descend(
        functools.partial(loss, logits_fn(setting.config, context)), optimizer, part
    )
    return Plan(vision_method(build, setting, part), part)


def train(setting: Setting, optimizer: optax.GradientTransformation) -> Plan:
    """Cross-entropy on the stream's images: original, retrained and FT."""
    return descent(setting, optimizer, vision.cross_entropy, "retain")


def fine_tune(config: FineTune, setting: Setting) -> Plan:
    """FT: cross-entropy on retain images."""
    return train(setting, config.sgd())


def l1_sparse(config: L1Sparse, setting: Setting) -> Plan:
    """FT with a weight on ‖θ‖₁ that falls to 0 over the budget."""
    updates = max(1, int(setting.budget))
    weight = lambda k: config.alpha * jnp.maximum(0.0, 1 - k / updates)
    return train(setting, config.sgd(add_l1(weight)))


def gradient_ascent(config: GradientAscent, setting: Setting) -> Plan:
    """Gradient ascent on forget images."""
    return descent(setting, config.sgd(), vision.negated_cross_entropy, "forget")


_L1_SEARCH = RATE | {"alpha": Range(1e-6, 1e-4, log=True)}
FINE_TUNE = Spec("Fine-tuning", "2108.11577", FineTune(), fine_tune, RATE)
L1_SPARSE = Spec("l1-sparse", "2304.04934", L1Sparse(), l1_sparse, _L1_SEARCH)
GRADIENT_ASCENT = Spec(
    "Gradient ascent", "2109.13398", GradientAscent(), gradient_ascent, SMALL_RATE
)
