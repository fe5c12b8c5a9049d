"""Gradient ascent that weighs tokens by their probability: WGA and SatImp."""

import dataclasses

from ofmu_jax.bounds import NotNegative
from ofmu_jax.losses import reweighted
from ofmu_jax.methods.base import Range
from ofmu_jax.methods.language.setting import ALPHA, GradDiffConfig, baseline, plain


@dataclasses.dataclass(frozen=True)
class WgaConfig(GradDiffConfig):
    """γ WGA + α R."""

    beta: NotNegative = 1.0
    """β, power of the token's probability in its weight."""


@dataclasses.dataclass(frozen=True)
class SatImpConfig(GradDiffConfig):
    """γ SatImp + α R."""

    gamma: NotNegative = 0.1
    beta1: NotNegative = 5.0
    """β₁, power of p in the token's weight."""
    beta2: NotNegative = 1.0
    """β₂, power of 1 − p in the token's weight."""


WGA = baseline(
    "WGA",
    "2502.19301",
    WgaConfig(),
    plain(reweighted.wga, "beta"),
    {"beta": Range(0.1, 5.0, log=True), "alpha": ALPHA},
)
SATIMP = baseline(
    "SatImp",
    "2505.11953",
    SatImpConfig(),
    plain(reweighted.satimp, "beta1", "beta2"),
    {
        "beta1": Range(0.5, 10.0, log=True),
        "beta2": Range(0.1, 2.0, log=True),
        "gamma": Range(0.03, 1.0, log=True),
    },
)
