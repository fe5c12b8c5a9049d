"""OFMU for classifiers: its forget losses, and SGD for its outer steps."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import numpy as np

from ofmu_jax.bounds import BelowOne, Positive, Term
from ofmu_jax.losses import vision
from ofmu_jax.methods import ofmu
from ofmu_jax.methods.base import Method
from ofmu_jax.methods.inner_optimizers import InnerOptimizer
from ofmu_jax.methods.traced import with_numbers
from ofmu_jax.methods.vision.classifier import Context, logits_fn, sgd, vision_method
from ofmu_jax.methods.vision.descent import RATE
from ofmu_jax.methods.vision.setting import Compiled, Plan, Setting

ForgetLoss = Literal[
    "auto", "target_cross_entropy", "mean_target_cross_entropy", "cross_entropy"
]


@dataclasses.dataclass(frozen=True)
class Ofmu(ofmu.OfmuConfig):
    """OFMU through `ofmu_jax.ofmu`."""

    forget_loss: ForgetLoss = "auto"
    """target_cross_entropy: bounded image by image; mean_target_cross_entropy: in its
    mean; cross_entropy: unbounded, as in the paper; auto: image by image if no class
    that is forgotten is kept in part, else in its mean, as a retrained model still
    knows most images of a random draw."""
    inner_optimizer: InnerOptimizer = "normalized"
    inner_learning_rate: Positive = ofmu.FIXED_RATE
    outer_learning_rate: Positive = 0.01
    """Of the outer SGD."""
    weight_decay: Term = 5e-4
    momentum: BelowOne = 0.9
    norm: Literal["batch", "running"] = "batch"
    """What the losses normalise with: batch, or running averages, which move after each
    update."""


def forget_loss_of(config: Ofmu, setting: Setting) -> ForgetLoss:
    """The forget loss that auto stands for."""
    if config.forget_loss != "auto":
        return config.forget_loss
    kept = np.isin(setting.forget.labels, setting.retain.labels).any()
    return "mean_target_cross_entropy" if kept else "target_cross_entropy"


def build(config: Ofmu, setting: Setting) -> Plan:
    """OFMU on the losses of a classifier, whose averages move after each update."""
    config = dataclasses.replace(config, forget_loss=forget_loss_of(config, setting))
    numbers = config, setting.forget_target
    return Plan(with_numbers(_ofmu, numbers, *setting.compiled), "paired")


def _ofmu(numbers: Any, *compiled) -> Method:
    setting, (config, target) = Compiled(*compiled), numbers
    target = None if target is None else config.ceiling * target
    outer = sgd(config.outer_rate, config.weight_decay, momentum=config.momentum)

    def on_parameters(context: Context) -> Method:
        logits = logits_fn(setting.config, context, config.norm)
        return config.create(
            vision.ascended_loss(config.forget_loss, logits, target=target),
            functools.partial(vision.cross_entropy, logits),
            outer,
            unroll=jax.default_backend() == "cpu",  # convolutions: see `ofmu_jax.ofmu`
        )

    return vision_method(
        on_parameters, setting, "retain", averages="after", last=config.outer_steps
    )


paper_setting = functools.partial(ofmu.paper_setting, momentum=0.0, weight_decay=0.0)
SPEC = ofmu.entry(Ofmu(), build, RATE["learning_rate"], {}, paper=paper_setting)
