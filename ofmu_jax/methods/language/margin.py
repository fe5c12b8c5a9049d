"""PDU: a small logit margin on forget rows, subject to the retain loss."""

import dataclasses
from typing import Literal

from ofmu_jax.bilevel import is_static_zero
from ofmu_jax.bounds import NotNegative, Share
from ofmu_jax.losses import likelihood, margin
from ofmu_jax.methods.base import Method, Range
from ofmu_jax.methods.language.setting import Setting, baseline, mean_of
from ofmu_jax.methods.rules.primal_dual import primal_dual
from ofmu_jax.methods.traced import rounded


@dataclasses.dataclass(frozen=True)
class PduConfig:
    """γ logit margin of forget rows subject to R ≤ ε."""

    gamma: NotNegative = 1.0
    """γ, weight of the forget loss."""
    epsilon: NotNegative = 0.3
    """ε, nats per token the retain loss may have."""
    multiplier: NotNegative = 1.0
    """λ at the start."""
    dual_step: NotNegative = 1.0
    """η, step size of λ."""
    warmup_fraction: Share = 0.5
    """Share of the run in which λ stays put (published: 5 of 10 epochs)."""
    positions: Literal["answer", "unshifted", "all"] = "answer"
    """Where logits are flattened: answer tokens, or all; unshifted is the published
    answer, off by one."""


def pdu(config: PduConfig, setting: Setting) -> Method:
    """PDU with the retain cross-entropy as its constraint."""
    if setting.budget is None and not is_static_zero(config.warmup_fraction):
        raise ValueError(
            "pdu needs Setting.budget, the gradient evaluations of the run, for its "
            "warm-up; or set warmup_fraction to 0."
        )
    budget = 0 if setting.budget is None else setting.budget
    updates = budget // 2  # an update takes two gradients
    return primal_dual(
        mean_of(margin.logit_margin, setting, positions=config.positions),
        mean_of(likelihood.cross_entropy, setting),
        setting.optimizer,
        epsilon=config.epsilon,
        forget_weight=config.gamma,
        multiplier=config.multiplier,
        dual_step=config.dual_step,
        warmup_updates=rounded(config.warmup_fraction * updates),
    )


PDU = baseline(
    "PDU",
    "2506.05314",
    PduConfig(),
    pdu,
    {
        "epsilon": Range(0.03, 1.0, log=True),
        "multiplier": Range(0.3, 100.0, log=True),
        "dual_step": Range(0.1, 10.0, log=True),
    },
)
