"""Vision methods that descend one loss: training, FT, ℓ1-sparse and gradient ascent.

Rates of all vision methods are those of ResNet-18 on CIFAR-10 within the ranges of the
SalUn protocol (arXiv 2310.12508); another network or data set wants its own. The text
after each field of a config is its help.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from ofmu_jax.bounds import NotNegative, Positive, Term
from ofmu_jax.losses import vision
from ofmu_jax.methods import schedules
from ofmu_jax.methods.base import Method, Range, Spec
from ofmu_jax.methods.rules.weighted import descend
from ofmu_jax.methods.traced import with_numbers
from ofmu_jax.methods.vision.classifier import (
    Part,
    add_l1,
    logits_fn,
    sgd,
    vision_method,
)
from ofmu_jax.methods.vision.setting import Compiled, Plan, Setting

# The ranges of the SalUn protocol; those of ascent and of the boundary methods reach
# higher, as small networks need larger rates.
RATE = {"learning_rate": Range(1e-3, 1e-1, log=True)}
SMALL_RATE = {"learning_rate": Range(1e-5, 1e-2, log=True)}


@dataclasses.dataclass(frozen=True)
class Descent:
    """What every method that descends a loss has: SGD with momentum 0.9."""

    learning_rate: Positive = 0.01
    weight_decay: Term = 5e-4

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


def descent(
    setting: Setting,
    optimizer_of: Callable[[Any], optax.GradientTransformation],
    numbers: Any,
    loss: Callable[..., Any] = vision.cross_entropy,
    part: Part = "retain",
) -> Method:
    """Minimises ``loss`` of (logits_fn, params, batch) on the batches of a part.

    Args:
      optimizer_of: from ``numbers`` (`methods.with_numbers`); it and ``loss`` are there
        once, such as functions of a module.
    """
    more = optimizer_of, loss, part, *setting.compiled
    return with_numbers(_descent, numbers, *more)


def _descent(numbers, optimizer_of, loss, part: Part, *compiled) -> Method:
    setting, optimizer = Compiled(*compiled), optimizer_of(numbers)
    build = lambda context: descend(
        functools.partial(loss, logits_fn(setting.config, context)), optimizer, part
    )
    return vision_method(build, setting, part)


def train(setting: Setting, rate: float, weight_decay: float, num_updates: int) -> Plan:
    """Cross-entropy on the stream's images, of the original and the retrained model.

    The rate falls tenfold after a half and after three quarters of the updates.
    """
    steps = {float(num_updates // 2), float(num_updates * 3 // 4)}
    numbers = rate, weight_decay, *sorted(steps)
    return Plan(descent(setting, _stepwise_sgd, numbers))


def _stepwise_sgd(numbers: Any) -> optax.GradientTransformation:
    rate, weight_decay, *steps = numbers
    return sgd(schedules.stepwise(rate, *steps), weight_decay)


def fine_tune(config: FineTune, setting: Setting) -> Plan:
    """FT: cross-entropy on retain images."""
    return Plan(descent(setting, Descent.sgd, config))


def l1_sparse(config: L1Sparse, setting: Setting) -> Plan:
    """FT with a weight on ‖θ‖₁ that falls to 0 over the budget."""
    updates = float(max(1, int(setting.budget)))
    return Plan(descent(setting, _sparse_sgd, (config, updates)))


def _sparse_sgd(numbers: Any) -> optax.GradientTransformation:
    config, updates = numbers
    weight = lambda k: config.alpha * jnp.maximum(0.0, 1 - k / updates)
    return config.sgd(add_l1(weight))


def gradient_ascent(config: GradientAscent, setting: Setting) -> Plan:
    """Gradient ascent on forget images."""
    upwards = vision.negated_cross_entropy, "forget"
    return Plan(descent(setting, Descent.sgd, config, *upwards), "forget")


_L1_SEARCH = RATE | {"alpha": Range(1e-6, 1e-4, log=True)}
FINE_TUNE = Spec("Fine-tuning", "2108.11577", FineTune(), fine_tune, RATE)
L1_SPARSE = Spec("l1-sparse", "2304.04934", L1Sparse(), l1_sparse, _L1_SEARCH)
GRADIENT_ASCENT = Spec(
    "Gradient ascent", "2109.13398", GradientAscent(), gradient_ascent, SMALL_RATE
)
