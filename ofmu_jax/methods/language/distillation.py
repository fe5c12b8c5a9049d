"""Methods that teach a distribution in place of the token: UNDIAL and CE-U."""

import dataclasses
import functools

from ofmu_jax.bounds import NotNegative, NotNegativeInt, Term
from ofmu_jax.losses import distillation
from ofmu_jax.losses.accumulation import accumulated, later_answer_tokens
from ofmu_jax.methods.base import Method, Range
from ofmu_jax.methods.language.setting import (
    GradDiffConfig,
    Setting,
    baseline,
    mean_of,
    retain_of,
)
from ofmu_jax.methods.rules.frozen import with_frozen
from ofmu_jax.methods.rules.weighted import gradient_ascent, weighted_difference


@dataclasses.dataclass(frozen=True)
class UndialConfig(GradDiffConfig):
    """γ UNDIAL + α R; published without a retain term."""

    alpha: Term = 0.0
    beta: NotNegative = 10.0
    """β, what is taken from the logit of the token to forget."""


@dataclasses.dataclass(frozen=True)
class CeuConfig:
    """CE-U, without a retain term."""

    skip_first: NotNegativeInt = 1
    """Tokens at the start of each answer that are left alone."""


def undial(config: UndialConfig, setting: Setting) -> Method:
    """γ UNDIAL + α R; the teacher passes over the forget rows at every update."""
    retain, passes = retain_of(config, setting)
    forget = mean_of(
        distillation.undial, setting, beta=config.beta, positions=config.positions
    )

    def with_teacher(teacher):
        return weighted_difference(
            lambda p, b: forget(p, b, teacher),
            functools.partial(retain, reference=teacher),
            setting.optimizer,
            forget_weight=config.gamma,
            retain_weight=config.alpha,
        )

    return with_frozen(with_teacher, forward_passes=1 + passes)


def ceu(config: CeuConfig, setting: Setting) -> Method:
    """CE-U, without a retain term as published."""
    loss = functools.partial(
        distillation.ceu, setting.apply_fn, skip_first=config.skip_first
    )
    weight = later_answer_tokens(config.skip_first)
    loss = accumulated(loss, setting.micro_batches, weight)
    return gradient_ascent(loss, setting.optimizer)


UNDIAL = baseline(
    "UNDIAL",
    "2402.10052",
    UndialConfig(),
    undial,
    {"beta": Range(1.0, 30.0, log=True), "alpha": Range(0.0, 5.0)},
    learning_rate=1e-4,
)
CEU = baseline("CE-U", "2503.01224", CeuConfig(), ceu, {})
