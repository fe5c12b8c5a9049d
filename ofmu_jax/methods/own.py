"""Methods for models of one's own, of which there is a loss and nothing else.

The loss is a mean over a batch, such as a cross-entropy: low on what a model knows.

>>> list(METHODS)
['ofmu', 'gradient_ascent', 'grad_diff', 'pcgrad', 'gru', 'ngdiff']
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ofmu_jax.bounds import NotNegative, NotNegativeInt, Positive, Term
from ofmu_jax.methods import ofmu, schedules
from ofmu_jax.methods.base import BatchLoss, Method, Range, Spec
from ofmu_jax.methods.language.setting import ALPHA, LEARNING_RATE, clipped_adamw
from ofmu_jax.methods.rules import surgery
from ofmu_jax.methods.rules.weighted import (
    gradient_ascent,
    weighted_difference,
    weighted_sum,
)


class Setting(NamedTuple):
    """What a run gives every method."""

    loss: BatchLoss  # (parameters, batch) -> scalar
    forget_target: float | None = None  # loss at which a batch counts as forgotten


@dataclasses.dataclass(frozen=True)
class Ofmu(ofmu.OfmuConfig):
    """OFMU on a loss; AdamW of clipped gradients takes the outer steps."""

    forget_loss: Literal["target_cross_entropy", "cross_entropy"] = (
        "target_cross_entropy"
    )
    """−½ (target − loss)², by which the loss of a batch ascends to the forget target;
    or the loss itself, without bound, as in the paper."""
    inner_max_step: Positive = 2e-2
    """The longest step of polyak, in norms of the parameters: of small models."""


@dataclasses.dataclass(frozen=True)
class Ascent:
    """AdamW of gradients clipped to norm 1."""

    learning_rate: Positive = 1e-4
    weight_decay: Term = 0.0
    warmup_steps: NotNegativeInt = 0
    """Updates in which the rate rises to the learning rate in a line."""


@dataclasses.dataclass(frozen=True)
class Difference(Ascent):
    """γ (−L_f) and α L_r."""

    gamma: NotNegative = 1.0
    """γ, weight of the forget loss."""
    alpha: Term = 1.0
    """α, weight of the retain loss; 0 leaves it out."""


def _ofmu(config: Ofmu, setting: Setting) -> Method:
    loss, target = setting.loss, setting.forget_target
    optimizer = clipped_adamw(config.outer_rate, config.weight_decay, "float32")
    if config.forget_loss == "cross_entropy":
        return config.create(loss, loss, optimizer)
    if target is None:
        raise ValueError(
            "ofmu ascends to a forget target and there is none: give forget_target=, "
            "the loss at which examples count as forgotten, or holdout=, examples that "
            "the model never saw; or forget_loss='cross_entropy'."
        )
    bounded = lambda params, batch: -((target - loss(params, batch)) ** 2) / 2
    return config.create(bounded, loss, optimizer)


def _ascent(config: Ascent, setting: Setting) -> Method:
    return gradient_ascent(_negated(setting), _optimizer(config))


def _difference(
    config: Difference, setting: Setting, direction: Callable[..., Any] = weighted_sum
) -> Method:
    return weighted_difference(
        _negated(setting),
        setting.loss,
        _optimizer(config),
        forget_weight=config.gamma,
        retain_weight=config.alpha,
        direction=direction,
    )


def _negated(setting: Setting) -> BatchLoss:
    return lambda params, batch: -setting.loss(params, batch)


def _optimizer(config: Ascent) -> Any:
    rate = schedules.warmup(config.learning_rate, config.warmup_steps)
    return clipped_adamw(rate, config.weight_decay, "float32")


def _entry(title: str, source: str, direction: Callable[..., Any]) -> Spec:
    spans: dict[str, Range] = {"learning_rate": LEARNING_RATE, "alpha": ALPHA}
    build = functools.partial(_difference, direction=direction)
    return Spec(title, source, Difference(), build, spans)


METHODS: dict[str, Spec] = {
    "ofmu": ofmu.entry(Ofmu(), _ofmu, LEARNING_RATE, {}),
    "gradient_ascent": Spec(
        "Gradient ascent",
        "2401.06121",
        Ascent(),
        _ascent,
        {"learning_rate": LEARNING_RATE},
    ),
    "grad_diff": _entry("GradDiff", "2401.06121", weighted_sum),
    "pcgrad": _entry("PCGrad", "2001.06782", surgery.pcgrad_direction),
    "gru": _entry("GRU", "2503.09117", surgery.gru_direction),
    "ngdiff": _entry("NGDiff", "2410.22086", surgery.ngdiff_direction),
}
