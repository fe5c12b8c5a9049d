"""OFMU for language models: which loss it ascends on, and its outer optimizer."""

import dataclasses
import functools
from typing import Literal

import optax

from ofmu_jax.bounds import Positive
from ofmu_jax.losses import likelihood
from ofmu_jax.losses.accumulation import accumulated, answer_tokens, rows
from ofmu_jax.losses.bounded import ascended_loss
from ofmu_jax.methods import ofmu
from ofmu_jax.methods.base import Carries, Method, Range
from ofmu_jax.methods.language.setting import (
    LEARNING_RATE,
    WARMUP,
    Setting,
    clipped_adamw,
)

ForgetLoss = Literal["cross_entropy", "target_cross_entropy", "npo", "simnpo"]


@dataclasses.dataclass(frozen=True)
class Ofmu(ofmu.OfmuConfig):
    """OFMU; --paper is the paper's literal setting."""

    forget_loss: ForgetLoss = "target_cross_entropy"
    """What ascends on forget rows: target_cross_entropy, bounded by the forget target;
    cross_entropy, unbounded as in the paper; the negated loss of npo or simnpo."""
    npo_beta: Positive = 0.1
    """β of the forget loss npo."""
    simnpo_beta: Positive = 4.5
    """β of the forget loss simnpo."""
    outer_optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: plain steps, the paper's; adamw, on gradients clipped to norm 1."""


def build(config: Ofmu, setting: Setting) -> Method:
    """OFMU on the losses of a language model, each in micro-batches."""
    rate = config.outer_rate
    outer = (
        setting.optimizer
        or {
            "sgd": optax.sgd(rate),
            "adamw": clipped_adamw(rate, config.weight_decay, setting.moments_dtype),
        }[config.outer_optimizer]
    )
    forget = ascended_loss(
        config.forget_loss,
        setting.apply_fn,
        npo_beta=config.npo_beta,
        simnpo_beta=config.simnpo_beta,
    )
    per_token = config.forget_loss == "cross_entropy"
    retain = functools.partial(likelihood.cross_entropy, setting.apply_fn)
    parts = setting.micro_batches
    return config.create(
        accumulated(forget, parts, answer_tokens if per_token else rows),
        accumulated(retain, parts, answer_tokens),
        outer,
    )


def carries(config: Ofmu) -> Carries:
    """What its forget loss asks for."""
    bounded = config.forget_loss == "target_cross_entropy"
    return Carries(
        reference_nll=config.forget_loss == "npo",
        target_nll=config.ceiling if bounded else None,
    )


# The defaults above are of small models that are trained from scratch. A pretrained one
# is another model a thousandth of its norm away, so look-aheads stay near, and ascents
# ask for what outer steps mend: docs/results/smollm2.md.
PRETRAINED = Ofmu(
    inner_learning_rate=0.75,
    inner_check=True,
    inner_harm=0.3,
    lookahead_max_step=2e-5,
    outer_learning_rate=1e-4,
    outer_warmup_steps=WARMUP,
)
paper_setting = functools.partial(ofmu.paper_setting, outer_optimizer="sgd")
SPEC = ofmu.entry(
    Ofmu(),
    build,
    LEARNING_RATE,
    {"inner_max_step": Range(3e-4, 1e-2, log=True)},
    paper=paper_setting,
    carries=carries,
)
