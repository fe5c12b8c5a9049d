"""What a run gives every method for language models, and what their builders share.

Names of hyper-parameters are those of the field: γ weighs the forget loss, α the retain
loss, β and δ belong to the forget loss. The text after each field of a config is its
help on a command line.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import optax

from ofmu_jax.bilevel import is_static_zero
from ofmu_jax.bounds import NotNegative, NotNegativeInt, Positive, Term
from ofmu_jax.losses import distillation, likelihood, representation
from ofmu_jax.losses.accumulation import (
    OF_POSITIONS,
    Weight,
    accumulated,
    answer_tokens,
    rows,
)
from ofmu_jax.losses.representation import HiddenFn
from ofmu_jax.losses.tokens import ApplyFn
from ofmu_jax.losses.tokens import Positions as Positions
from ofmu_jax.methods import schedules
from ofmu_jax.methods.base import Carries, Method, Range, Spec
from ofmu_jax.methods.moments import scale_by_adam_in_bfloat16
from ofmu_jax.methods.rules.frozen import with_frozen
from ofmu_jax.methods.rules.weighted import weighted_difference

Moments = Literal["float32", "bfloat16"]
LossConfig = TypeVar("LossConfig")
LEARNING_RATE = Range(1e-5, 1e-2, log=True)  # to search in, for every method alike
ALPHA = Range(0.1, 10.0, log=True)
BETA = Range(0.02, 0.5, log=True)


class Setting(NamedTuple):
    """What a run gives every method."""

    apply_fn: ApplyFn
    optimizer: Any = None  # of optax; None: the config's own
    hidden_fn: HiddenFn | None = None  # of the layer that the config names
    budget: float | None = None  # gradient evaluations of the whole run
    micro_batches: int = 1  # that every loss is computed in, see `accumulation`
    moments_dtype: Moments = "float32"  # of AdamW, where the optimizer is the config's


# AdamW's first steps are as long as the rate allows, whatever the gradient: they break
# a pretrained model (docs/results/smollm2.md). The authors' warm-up is an epoch, about
# 12 batches of forget10.
WARMUP = 12


# The optimizer is the same for all, and not the published one: a rate that stays after
# its warm-up, where the authors' falls linearly, and no weight decay (theirs: 0.01).
@dataclasses.dataclass(frozen=True)
class Baseline(Generic[LossConfig]):
    """A baseline: AdamW, gradients clipped to norm 1, on its own losses."""

    loss: LossConfig
    learning_rate: Positive
    weight_decay: Term = 0.0
    warmup_steps: NotNegativeInt = WARMUP
    """Updates in which the rate rises to the learning rate in a line."""


def clipped_adamw(
    rate: float | optax.Schedule, weight_decay: float, moments_dtype: Moments
) -> optax.GradientTransformation:
    """AdamW of gradients clipped to norm 1."""
    clip = optax.clip_by_global_norm(1.0)
    if moments_dtype == "float32":
        return optax.chain(clip, optax.adamw(rate, weight_decay=weight_decay))
    return optax.chain(
        clip,
        scale_by_adam_in_bfloat16(),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )


def baseline(
    title: str,
    source: str,
    loss: Any,
    build: Callable[[Any, Setting], Method],
    search: Mapping[str, Range],
    *,
    learning_rate: float = 1e-5,
    carries: Carries | Callable[[Any], Carries] | None = None,
    **more: Any,
) -> Spec:
    """The entry of a `Baseline`.

    ``build`` takes ``loss``, the config of its losses, and a setting with an optimizer;
    ``search`` is of fields of it, ``carries`` may be a function of the whole config;
    ``learning_rate`` is the published one, for models of
    billions of parameters.
    """

    def with_optimizer(config: Baseline, setting: Setting) -> Method:
        if setting.optimizer is None:
            rate = schedules.warmup(config.learning_rate, config.warmup_steps)
            optimizer = clipped_adamw(rate, config.weight_decay, setting.moments_dtype)
            setting = setting._replace(optimizer=optimizer)
        return build(config.loss, setting)

    spans = {f"loss.{field}": span for field, span in search.items()}
    always = carries if isinstance(carries, Carries) else Carries()
    return Spec(
        title,
        source,
        Baseline(loss, learning_rate),
        with_optimizer,
        {"learning_rate": LEARNING_RATE} | spans,
        carries=carries if callable(carries) else lambda config: always,
        **more,
    )


@dataclasses.dataclass(frozen=True)
class GradDiffConfig:
    """γ (−NLL of forget rows) + α R."""

    gamma: NotNegative = 1.0
    """γ, weight of the forget loss."""
    alpha: Term = 1.0
    """α, weight of the retain loss; 0 leaves it out."""
    retain: Literal["nll", "kl"] = "nll"
    """R: nll, cross-entropy; kl, KL(before ‖ now), which keeps a second model in
    memory."""
    positions: Positions = "answer"
    """Where KL and distillation average: answer tokens, or all, as published."""


def plain(
    loss: Callable,
    *fields: str,
    mean_over: Weight = answer_tokens,
    rule=weighted_difference,
    forget_cost=1,
    forget_radius: str | None = None,
):
    """Builds γ ``loss`` + α R, the loss a function of these fields of the config.

    ``forget_radius`` is the field with the radius that the forget loss is
    sharpness-aware at.
    """

    def build_method(config, setting: Setting) -> Method:
        options = {field: getattr(config, field) for field in fields}
        forget = mean_of(loss, setting, mean_over, **options)
        more = {}
        if forget_radius is not None:
            more["forget_radius"] = getattr(config, forget_radius)

        def made(retain):
            return rule(
                forget,
                retain,
                setting.optimizer,
                forget_weight=config.gamma,
                retain_weight=config.alpha,
                forget_cost=forget_cost,
                **more,
            )

        return with_retain(made, config, setting)

    return build_method


def with_retain(
    made: Callable[[Callable], Method], config: Any, setting: Setting
) -> Method:
    """What ``made`` makes of R, with the model before where R asks for it."""
    retain, passes = retain_of(config, setting)

    def with_reference(reference):
        return made(functools.partial(retain, reference=reference))

    if passes == 0:
        return with_reference(None)
    return with_frozen(with_reference, forward_passes=passes)


def retain_of(config: Any, setting: Setting) -> tuple[Callable, int]:
    """R of ``(params, batch, reference)``, and its passes through a frozen model.

    Those are none where the config has an α that leaves R out.
    """
    passes = 0 if is_static_zero(getattr(config, "alpha", None)) else 1
    if config.retain == "nll":
        loss = mean_of(likelihood.cross_entropy, setting)
        return lambda p, b, reference: loss(p, b), 0
    if config.retain == "kl":
        loss = mean_of(
            distillation.kl_to_reference, setting, positions=config.positions
        )
        return lambda p, b, reference: loss(p, b, reference), passes
    if config.retain == "hidden":
        loss = mean_of_hidden(representation.rmu_retain, config, setting)
        return lambda p, b, reference: loss(p, b, reference), passes
    raise ValueError(
        f"retain={config.retain!r} is unknown; choose nll or kl, or hidden for RMU."
    )


def mean_of(
    loss: Callable, setting: Setting, weight: Weight = answer_tokens, **options: Any
) -> Callable:
    """The loss as a function of ``(params, batch, *more)``, in micro-batches.

    ``weight`` is what it is a mean over, unless its option ``positions`` decides.
    """
    if "positions" in options:
        # A choice that there is not is refused by the loss itself.
        weight = OF_POSITIONS.get(options["positions"], weight)
    made = functools.partial(loss, setting.apply_fn, **options)
    return accumulated(made, setting.micro_batches, weight)


def mean_of_hidden(loss: Callable, config: Any, setting: Setting) -> Callable:
    """The same for a loss on hidden states: a mean over rows, but for compat."""
    if config.compat and setting.micro_batches > 1:
        raise ValueError(
            "RMU's compat loss multiplies means over the rows of a batch, so it is no "
            "sum over micro-batches; use --grad-accum 1, or --NAME.loss.no-compat."
        )
    options = {"positions": config.positions, "compat": config.compat}
    made = functools.partial(loss, hidden_fn_of(config, setting), **options)
    return accumulated(made, setting.micro_batches, rows)


def hidden_fn_of(config: Any, setting: Setting) -> HiddenFn:
    """What returns the hidden states of the layer that the config names."""
    if setting.hidden_fn is None:
        raise ValueError(
            "RMU needs Setting.hidden_fn, which returns the output of decoder layer "
            f"{config.layer} as (B, L, D)."
        )
    return setting.hidden_fn
