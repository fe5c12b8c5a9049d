"""Gradient ascent and what adds a retain loss to it (arXiv 2401.06121)."""

import dataclasses
from typing import Literal

from ofmu_jax.losses import likelihood
from ofmu_jax.methods.base import Method
from ofmu_jax.methods.language.setting import (
    ALPHA,
    GradDiffConfig,
    Setting,
    baseline,
    mean_of,
    plain,
)
from ofmu_jax.methods.rules.weighted import gradient_ascent


@dataclasses.dataclass(frozen=True)
class AscentConfig:
    """Gradient ascent has no hyper-parameters but the optimizer's."""


@dataclasses.dataclass(frozen=True)
class KlMinimizationConfig(GradDiffConfig):
    """Gradient ascent on forget rows, KL to the model before on retain rows."""

    retain: Literal["nll", "kl"] = "kl"


def ascent(config: AscentConfig, setting: Setting) -> Method:
    """Gradient ascent; the config is empty."""
    loss = mean_of(likelihood.negated_cross_entropy, setting)
    return gradient_ascent(loss, setting.optimizer)


_DIFFERENCE = plain(likelihood.negated_cross_entropy), {"alpha": ALPHA}
GRADIENT_ASCENT = baseline("Gradient ascent", "2401.06121", AscentConfig(), ascent, {})
GRAD_DIFF = baseline("GradDiff", "2401.06121", GradDiffConfig(), *_DIFFERENCE)
KL_MINIMIZATION = baseline(
    "KL minimisation", "2401.06121", KlMinimizationConfig(), *_DIFFERENCE
)
