"""NPO and its relatives: forgetting as a preference that the model learns."""

import dataclasses
from typing import Literal

from ofmu_jax.bounds import Count, NotNegative, Positive, Term
from ofmu_jax.losses import preference
from ofmu_jax.losses.accumulation import rows
from ofmu_jax.methods.base import Alternatives, Carries, Range
from ofmu_jax.methods.language.setting import (
    ALPHA,
    BETA,
    Baseline,
    GradDiffConfig,
    baseline,
    plain,
)
from ofmu_jax.methods.rules.blur import blur


@dataclasses.dataclass(frozen=True)
class NpoConfig(GradDiffConfig):
    """γ NPO + α R."""

    beta: Positive = 0.1
    """β, inverse temperature."""


@dataclasses.dataclass(frozen=True)
class NpoSamConfig(NpoConfig):
    """γ NPO at a point that it is worst at nearby + α R."""

    radius: Positive = 1e-2
    """ρ, how near."""


@dataclasses.dataclass(frozen=True)
class SimNpoConfig(GradDiffConfig):
    """γ SimNPO + α R."""

    gamma: NotNegative = 0.125
    beta: Positive = 4.5
    """β, inverse temperature, per token."""
    delta: NotNegative = 0.0
    """δ, nats per token that take the reference's place."""


@dataclasses.dataclass(frozen=True)
class IdkDpoConfig(NpoConfig):
    """γ DPO towards refusals + α R."""


@dataclasses.dataclass(frozen=True)
class AltPoConfig(NpoConfig):
    """γ DPO towards answers that the model itself makes up + α R."""

    alpha: Term = 2.0
    alternatives: Literal["prompted", "sampled"] = "prompted"
    """What they are: prompted asks for other facts, as published, which takes a model
    that follows instructions; sampled draws answers to the question alone."""
    temperature: Positive = 1.0
    """Of the draws."""
    draws: Count = 5
    """Answers to each question, of which the least like the right one is taken."""


@dataclasses.dataclass(frozen=True)
class BlurConfig(NpoConfig):
    """BLUR's direction from NPO and R (published for MUSE)."""


_SEARCH = {"beta": BETA, "alpha": ALPHA}
_REFERENCE = Carries(reference_nll=True)
NPO = baseline(
    "NPO",
    "2404.05868",
    NpoConfig(),
    plain(preference.npo, "beta", mean_over=rows),
    _SEARCH,
    carries=_REFERENCE,
)
NPO_SAM = baseline(
    "NPO with SAM",
    "2502.05374",
    NpoSamConfig(),
    plain(preference.npo, "beta", mean_over=rows, forget_radius="radius"),
    _SEARCH | {"radius": Range(1e-3, 1e-1, log=True)},
    carries=_REFERENCE,
)
SIMNPO = baseline(
    "SimNPO",
    "2410.07163",
    SimNpoConfig(),
    plain(preference.simnpo, "beta", "delta", mean_over=rows),
    {
        "beta": Range(1.0, 8.0, log=True),
        "delta": Range(0.0, 2.0),
        "gamma": Range(0.03, 1.0, log=True),
    },
)
IDK_DPO = baseline(
    "IdkDPO",
    "2401.06121",
    IdkDpoConfig(),
    plain(preference.dpo, "beta", mean_over=rows, forget_cost=2),
    _SEARCH,
    carries=Carries(reference_nll=True, alternative=True),
)


def _altpo_carries(config: Baseline) -> Carries:
    loss = config.loss
    made = Alternatives(loss.alternatives, loss.temperature, loss.draws)
    return Carries(reference_nll=True, alternative=True, alternatives=made)


ALTPO = baseline(
    "AltPO",
    "2409.13474",
    AltPoConfig(),
    plain(preference.dpo, "beta", mean_over=rows, forget_cost=2),
    _SEARCH,
    learning_rate=5e-5,
    carries=_altpo_carries,
)
BLUR = baseline(
    "BLUR",
    "2506.08164",
    BlurConfig(),
    plain(preference.npo, "beta", mean_over=rows, rule=blur),
    _SEARCH,
    learning_rate=2.5e-5,
    carries=_REFERENCE,
)
