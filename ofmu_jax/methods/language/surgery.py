"""Gradient surgery and SAUL: what may be chosen is the loss that forgets."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ofmu_jax.bounds import NotNegative, Positive, Share, Term
from ofmu_jax.losses import likelihood, preference
from ofmu_jax.losses.accumulation import answer_tokens, rows
from ofmu_jax.methods.base import Carries, Method, Range
from ofmu_jax.methods.language.setting import (
    ALPHA,
    Positions,
    Setting,
    baseline,
    mean_of,
    with_retain,
)
from ofmu_jax.methods.rules.constrained import constrained
from ofmu_jax.methods.rules.hamu import hamu
from ofmu_jax.methods.rules.surgery import (
    gru_direction,
    ngdiff_direction,
    pcgrad_direction,
)
from ofmu_jax.methods.rules.weighted import weighted_difference


@dataclasses.dataclass(frozen=True)
class ForgetConfig:
    """The two losses, of which a rule makes a step."""

    forget: Literal["nll", "npo"] = "nll"
    """What is descended on forget rows: nll, the negated cross-entropy; npo, NPO."""
    beta: Positive = 0.1
    """β of NPO."""
    retain: Literal["nll", "kl"] = "nll"
    """R: nll, cross-entropy; kl, KL(before ‖ now), which keeps a second model in
    memory."""
    positions: Positions = "answer"
    """Where KL averages: answer tokens, or all."""


@dataclasses.dataclass(frozen=True)
class PcgradConfig(ForgetConfig):
    """PCGrad's direction from γ F and α R."""

    gamma: Positive = 1.0
    """γ, weight of the forget loss."""
    alpha: Positive = 1.0
    """α, weight of the retain loss."""


@dataclasses.dataclass(frozen=True)
class GruConfig(ForgetConfig):
    """GRU: F, without what opposes R."""


@dataclasses.dataclass(frozen=True)
class NgdiffConfig(ForgetConfig):
    """NGDiff: both gradients at length 1."""


@dataclasses.dataclass(frozen=True)
class HamuConfig(ForgetConfig):
    """HAMU: the retain step that forgets enough."""

    constraint: Share = 0.5
    """c: what each step forgets, in multiples of ‖g_r‖ ‖g_f‖ of a tensor."""
    relative: bool = True
    """Whether the constraint scales with the gradients; published: it does not, and
    the whole is divided over the tensors."""
    stop: bool = False
    """Whether to end where no direction is left that forgets enough."""


@dataclasses.dataclass(frozen=True)
class SaulConfig(ForgetConfig):
    """SAUL: R, subject to a least NLL of the forget rows."""

    level: Positive = 1.0
    """α: the least NLL of forget rows, in the unit below."""
    unit: Literal["target", "nats"] = "target"
    """Of the level: multiples of the run's forget target, or nats per token."""
    dual_step: Positive = 1e-3
    """μ, step size of λ."""
    multiplier: NotNegative = 0.0
    """λ at the start."""
    radius: Term = 1e-3
    """ρ, how far the sharpness-aware gradients are taken; 0: plain ones, at half the
    cost."""


def forget_of(config: ForgetConfig, setting: Setting) -> Callable:
    """The forget loss that the config names, to be minimised."""
    if config.forget == "npo":
        return mean_of(preference.npo, setting, rows, beta=config.beta)
    if config.forget == "nll":
        return mean_of(likelihood.negated_cross_entropy, setting)
    raise ValueError(f"forget={config.forget!r} is unknown; choose nll or npo.")


def carries(config: Any) -> Carries:
    """What the forget loss, and SAUL's level, ask for."""
    in_targets = getattr(config.loss, "unit", None) == "target"
    return Carries(
        reference_nll=config.loss.forget == "npo",
        target_nll=config.loss.level if in_targets else None,
    )


def _by(rule: Callable[[Any, Callable, Callable, Setting], Method]) -> Callable:
    """Builds what ``rule(config, forget loss, retain loss, setting)`` gives."""

    def build(config: Any, setting: Setting) -> Method:
        forget = forget_of(config, setting)
        made = lambda retain: rule(config, forget, retain, setting)
        return with_retain(made, config, setting)

    return build


def along(direction: Callable, *fields: str) -> Callable:
    """Builds steps along ``direction`` of both gradients; ``fields`` weigh them."""

    def rule(config, forget, retain, setting):
        weights = [getattr(config, field) for field in fields] or [1.0, 1.0]
        return weighted_difference(
            forget,
            retain,
            setting.optimizer,
            forget_weight=weights[0],
            retain_weight=weights[1],
            direction=direction,
        )

    return _by(rule)


def _hamu(config: HamuConfig, forget, retain, setting: Setting) -> Method:
    options = ("constraint", "relative", "stop")
    chosen = {name: getattr(config, name) for name in options}
    return hamu(forget, retain, setting.optimizer, **chosen)


def _saul(config: SaulConfig, forget, retain, setting: Setting) -> Method:
    def level(batch: Any) -> jax.Array:
        if config.unit == "nats":
            return jnp.asarray(config.level)
        return jnp.mean(batch["target_nll"])  # which the level is a factor of already

    nll = mean_of(likelihood.cross_entropy, setting, answer_tokens)
    return constrained(
        forget,
        retain,
        setting.optimizer,
        level=level,
        measure=None if config.forget == "nll" else nll,
        dual_step=config.dual_step,
        multiplier=config.multiplier,
        radius=config.radius,
    )


PCGRAD = baseline(
    "PCGrad",
    "2001.06782",
    PcgradConfig(),
    along(pcgrad_direction, "gamma", "alpha"),
    {"alpha": ALPHA},
    carries=carries,
)
GRU = baseline(
    "GRU", "2503.09117", GruConfig(), along(gru_direction), {}, carries=carries
)
NGDIFF = baseline(
    "NGDiff",
    "2410.22086",
    NgdiffConfig(),
    along(ngdiff_direction),
    {},
    carries=carries,
)
HAMU = baseline(
    "HAMU",
    "2606.02119",
    HamuConfig(),
    _by(_hamu),
    {"constraint": Range(0.05, 0.95)},
    learning_rate=1e-4,
    carries=carries,
)
SAUL = baseline(
    "SAUL",
    "SAUL, 2026",
    SaulConfig(),
    _by(_saul),
    {
        "level": Range(0.5, 2.0, log=True),
        "dual_step": Range(1e-4, 1e-1, log=True),
        "radius": Range(1e-4, 1e-1, log=True),
    },
    carries=carries,
)
