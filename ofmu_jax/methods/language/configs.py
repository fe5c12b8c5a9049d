"""Hyper-parameters of the baselines, at their published values.

Names are those of the field: γ weighs the forget loss, α the retain loss, β and δ
belong to the forget loss. The optimizer and its learning rate come from the caller.
The text after each field is its help on a command line.
"""

import dataclasses
import math
from typing import Literal

Positions = Literal["answer", "all"]


@dataclasses.dataclass(frozen=True)
class Range:
    """What a hyper-parameter is searched in: an interval, on a log scale or not."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self} is empty, or its logarithm does not exist.")

    def at(self, fraction: float) -> float:
        """The value ``fraction`` of the way from low to high, 0 … 1.

        >>> Range(0.25, 4.0, log=True).at(0.5), Range(1.0, 2.0).at(0.5)
        (1.0, 1.5)
        """
        if self.log:
            return self.low * (self.high / self.low) ** fraction
        return self.low + (self.high - self.low) * fraction

    def fraction(self, value: float) -> float:
        """How far on the way from low to high a value is: the inverse of `at`.

        Values outside count as the nearer end.

        >>> Range(0.25, 4.0, log=True).fraction(1.0), Range(1.0, 2.0).fraction(9.0)
        (0.5, 1.0)
        """
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class AscentConfig:
    """Gradient ascent has no hyper-parameters but the optimizer's."""


@dataclasses.dataclass(frozen=True)
class GradDiffConfig:
    """γ (−NLL of forget rows) + α R."""

    gamma: float = 1.0
    """γ, weight of the forget loss."""
    alpha: float = 1.0
    """α, weight of the retain loss; 0 leaves it out."""
    retain: Literal["nll", "kl"] = "nll"
    """R: cross-entropy, or KL(before ‖ now), which keeps a second model in memory."""
    positions: Positions = "answer"
    """Where KL and distillation average: answer tokens, or all, as published."""


@dataclasses.dataclass(frozen=True)
class KlMinimizationConfig(GradDiffConfig):
    """Gradient ascent on forget rows, KL to the model before on retain rows."""

    retain: Literal["nll", "kl"] = "kl"


@dataclasses.dataclass(frozen=True)
class NpoConfig(GradDiffConfig):
    """γ NPO + α R."""

    beta: float = 0.1
    """β, inverse temperature."""


@dataclasses.dataclass(frozen=True)
class SimNpoConfig(GradDiffConfig):
    """γ SimNPO + α R."""

    gamma: float = 0.125
    beta: float = 4.5
    """β, inverse temperature, per token."""
    delta: float = 0.0
    """δ, nats per token that take the reference's place."""


@dataclasses.dataclass(frozen=True)
class IdkDpoConfig(GradDiffConfig):
    """γ DPO towards refusals + α R."""

    beta: float = 0.1
    """β, inverse temperature."""


@dataclasses.dataclass(frozen=True)
class WgaConfig(GradDiffConfig):
    """γ WGA + α R."""

    beta: float = 1.0
    """β, power of the token's probability in its weight."""


@dataclasses.dataclass(frozen=True)
class SatImpConfig(GradDiffConfig):
    """γ SatImp + α R."""

    gamma: float = 0.1
    beta1: float = 5.0
    """β₁, power of p in the token's weight."""
    beta2: float = 1.0
    """β₂, power of 1 − p in the token's weight."""


@dataclasses.dataclass(frozen=True)
class UndialConfig(GradDiffConfig):
    """γ UNDIAL + α R; published without a retain term."""

    alpha: float = 0.0
    beta: float = 10.0
    """β, what is taken from the logit of the token to forget."""


@dataclasses.dataclass(frozen=True)
class CeuConfig:
    """CE-U, without a retain term."""

    skip_first: int = 1
    """Tokens at the start of each answer that are left alone."""


@dataclasses.dataclass(frozen=True)
class RmuConfig:
    """γ RMU on forget rows + α R."""

    gamma: float = 1.0
    """γ, weight of the forget loss."""
    alpha: float = 1.0
    """α, weight of the retain loss; 0 leaves it out."""
    retain: Literal["hidden", "nll", "kl"] = "hidden"
    """R: hidden states stay (published), cross-entropy, or KL(before ‖ now)."""
    positions: Positions = "answer"
    """Tokens whose hidden states count: those of answers, or all."""
    steering: float = 2.0
    """c, norm of the control vector."""
    layer: int = 7
    """Decoder layer, from 0, whose output is steered: what hidden_fn has to return."""
    seed: int = 0
    """Of the control vector."""
    compat: bool = False
    """The published normalisation, which mixes the lengths of rows."""


@dataclasses.dataclass(frozen=True)
class PduConfig:
    """γ logit margin of forget rows subject to R ≤ ε."""

    gamma: float = 1.0
    """γ, weight of the forget loss."""
    epsilon: float = 0.3
    """ε, nats per token the retain loss may have."""
    multiplier: float = 1.0
    """λ at the start."""
    dual_step: float = 1.0
    """η, step size of λ."""
    warmup_fraction: float = 0.5
    """Share of the run in which λ stays put (published: 5 of 10 epochs)."""
    positions: Literal["answer", "unshifted", "all"] = "answer"
    """Where logits are flattened; unshifted is the published, off by one."""


@dataclasses.dataclass(frozen=True)
class BlurConfig(NpoConfig):
    """BLUR's direction from NPO and R (published for MUSE)."""


@dataclasses.dataclass(frozen=True)
class BlurRmuConfig(RmuConfig):
    """BLUR's direction from RMU's two losses (published for WMDP)."""

    alpha: float = 800.0
    positions: Positions = "all"
    steering: float = 6.5
