"""Settings that a run is put together from: sizes, budgets, methods, evaluation.

The text after each field is its help on the command line.
"""

import dataclasses
from typing import Any, Generic, Literal, TypeVar

from ofmu_jax.choices import (
    Base,
    Curvature,
    PenaltyGradient,
    RetainDirection,
    Similarity,
)
from ofmu_jax.methods import Lora
from ofmu_jax.methods.inner_optimizers import InnerOptimizer
from ofmu_jax.methods.language import configs
from ofmu_jax.methods.language.registry import METHODS

LossConfig = TypeVar("LossConfig")

MethodName = Literal[
    "ofmu",
    "gradient_ascent",
    "grad_diff",
    "kl_minimization",
    "npo",
    "simnpo",
    "idk_dpo",
    "rmu",
    "undial",
    "wga",
    "satimp",
    "ceu",
    "pdu",
    "blur",
    "blur_rmu",
]
ForgetLoss = Literal["cross_entropy", "target_cross_entropy", "npo", "simnpo"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size of a Llama trained from scratch (not used where a model is given)."""

    hidden_size: int = 96
    intermediate_size: int = 256
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    vocab_size: int = 2048
    """Of the tokenizer built from the data, at most."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Fine-tuning of the target on all rows and of the reference on retain rows."""

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters that are unlearned in place of the parameters."""

    rank: int = 0
    """Of the adapters; 0: none, the parameters themselves are changed."""
    alpha: float = Lora.alpha
    """An adapter's product counts alpha / rank times."""
    targets: str = Lora.targets
    """Regular expression: paths of the matrices that get one."""


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
    """What every method gets alike."""

    gradient_evaluations: int = 600
    """In gradients of one minibatch; a step of gradient ascent is 1."""
    batch_size: int = 16
    checks: int = 30
    """How often the stopping rule looks, evenly over the budget."""
    patience: int = 15
    """Checks that do not improve, once the target is met, before it stops."""
    forget_target: str = "auto"
    """Mean NLL the forget rows must reach: reference, chance, auto, none or nats."""
    check_rows: int = 256
    """Retain rows in a check, at most."""


@dataclasses.dataclass(frozen=True)
class OfmuConfig:
    """OFMU; --paper is the paper's literal setting."""

    forget_loss: ForgetLoss = "target_cross_entropy"
    ceiling: float = 1.05
    """What target_cross_entropy ascends to, in multiples of the forget target."""
    npo_beta: float = 0.1
    """β of the forget loss npo."""
    simnpo_beta: float = 4.5
    """β of the forget loss simnpo."""
    inner_steps: int = 2
    """T, steps of ascent on Φ."""
    inner_optimizer: InnerOptimizer = "clipped"
    """clipped: gradients of norm at most 1; normalized: of norm 1; polyak: steps that
    close the fraction η_in of the gap to the forget loss's maximum, by its slope."""
    inner_learning_rate: float = 0.1
    """η_in, of the inner optimizer."""
    inner_max_step: float = 2e-3
    """The longest step of polyak, in norms of the parameters."""
    outer_steps: int = 2
    outer_learning_rate: float = 1e-3
    outer_optimizer: Literal["sgd", "adamw"] = "adamw"
    weight_decay: float = 0.0
    beta: float = 0.1
    """Weight of the gradient similarity in Φ."""
    similarity: Similarity = "cosine"
    rho: float = 1e-2
    """Weight of ‖∇Φ‖² in F."""
    rho_growth: float = 1.02
    """γ: ρ grows by this factor every outer iteration."""
    base: Base = "inner"
    """Where the outer step starts: from the inner result, or where that began."""
    curvature: Curvature = "linearize"
    retain_direction: RetainDirection = "frozen"
    penalty_gradient: PenaltyGradient = "secant"
    penalty_clip: float | None = 1.0
    """The penalty's norm is at most this multiple of the retain gradient's."""


def ascending_by_slope(outer_learning_rate: float) -> OfmuConfig:
    """One step of Polyak's towards the bounded forget loss, then three that repair.

    Of some sixty settings among the best on rows set aside by --tune (TOFU forget01, a
    small Llama, 300 gradient evaluations), and of seven the best on SmolLM2-135M: inner
    steps find their length by themselves there, where fixed ones broke it or did not
    move it. Both of the paper's terms cost more than they gave.
    """
    return OfmuConfig(
        inner_steps=1,
        inner_optimizer="polyak",
        inner_learning_rate=0.5,
        outer_steps=3,
        outer_learning_rate=outer_learning_rate,
        beta=0.0,
        rho=0.0,
    )


def paper_setting(config: OfmuConfig) -> OfmuConfig:
    """The algorithm as the paper writes it: plain ascent on cross-entropy, exact.

    With both terms: one that a recipe leaves out gets its weight in `OfmuConfig`, and
    so does the inner rate where it was a fraction.
    """
    return dataclasses.replace(
        config,
        beta=config.beta or OfmuConfig.beta,
        rho=config.rho or OfmuConfig.rho,
        forget_loss="cross_entropy",
        inner_steps=5,
        inner_optimizer="sgd",
        inner_learning_rate=inner_rate(config, "sgd"),
        outer_steps=1,
        outer_optimizer="sgd",
        similarity="cosine",
        rho_growth=1.1,
        base="outer",
        curvature="vjp",
        retain_direction="fresh",
        penalty_gradient="exact",
        penalty_clip=None,
    )


def inner_rate(config: OfmuConfig, optimizer: InnerOptimizer) -> float:
    """η_in for another inner optimizer: polyak's is a fraction, the others' a step."""
    if (optimizer == "polyak") == (config.inner_optimizer == "polyak"):
        return config.inner_learning_rate
    return 0.5 if optimizer == "polyak" else OfmuConfig.inner_learning_rate


@dataclasses.dataclass(frozen=True)
class Baseline(Generic[LossConfig]):
    """A baseline: AdamW, gradients clipped to norm 1, on its own losses."""

    loss: LossConfig
    learning_rate: float
    weight_decay: float = 0.0


def published(name: str) -> Baseline:
    """A baseline's loss and learning rate as they were published, for big models.

    The optimizer is the same for all, and not published: a constant rate, where the
    authors' has a warm-up and falls linearly, and no weight decay (theirs: 0.01).
    """
    return Baseline(METHODS[name].config, METHODS[name].learning_rate)


@dataclasses.dataclass(frozen=True)
class Baselines:
    """One entry per method but OFMU."""

    gradient_ascent: Baseline[configs.AscentConfig] = published("gradient_ascent")
    grad_diff: Baseline[configs.GradDiffConfig] = published("grad_diff")
    kl_minimization: Baseline[configs.KlMinimizationConfig] = published(
        "kl_minimization"
    )
    npo: Baseline[configs.NpoConfig] = published("npo")
    simnpo: Baseline[configs.SimNpoConfig] = published("simnpo")
    idk_dpo: Baseline[configs.IdkDpoConfig] = published("idk_dpo")
    rmu: Baseline[configs.RmuConfig] = published("rmu")
    undial: Baseline[configs.UndialConfig] = published("undial")
    wga: Baseline[configs.WgaConfig] = published("wga")
    satimp: Baseline[configs.SatImpConfig] = published("satimp")
    ceu: Baseline[configs.CeuConfig] = published("ceu")
    pdu: Baseline[configs.PduConfig] = published("pdu")
    blur: Baseline[configs.BlurConfig] = published("blur")
    blur_rmu: Baseline[configs.BlurRmuConfig] = published("blur_rmu")


def small_models() -> Baselines:
    """Rates for small models that are trained from scratch; losses as published.

    A layer in the middle takes the place of RMU's, which lies beyond such a model.
    """
    rates = {"gradient_ascent": 3e-4, "grad_diff": 1e-4, "npo": 3e-4}
    fields: dict[str, Any] = {}
    for name in METHODS:
        entry = published(name)
        if isinstance(entry.loss, configs.RmuConfig):
            entry = dataclasses.replace(
                entry, loss=dataclasses.replace(entry.loss, layer=1)
            )
        rate = rates.get(name, 3e-4)
        fields[name] = dataclasses.replace(entry, learning_rate=rate)
    return Baselines(**fields)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Size and conventions of the evaluation."""

    batch_size: int = 64
    max_new_tokens: int = 48
    """Of the greedy answers that ROUGE is computed on."""
    max_rows: int | None = None
    """Rows of each evaluation set, evenly spaced; None: all."""
    interior_eot: Literal["correct", "compat"] = "correct"
    """compat masks end-of-turn tokens in prompts, as published chat numbers do, and
    this in training as well as in scores and answers."""
    bootstrap: int = 1000
    """Resamples behind the intervals within a run."""
