"""From a config and what a run provides to a method, one function a family."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax.bilevel import is_static_zero
from ofmu_jax.losses import distillation, likelihood, margin, representation
from ofmu_jax.losses.accumulation import (
    MEAN_OVER,
    OF_POSITIONS,
    accumulated,
    later_answer_tokens,
    rows,
)
from ofmu_jax.losses.representation import HiddenFn
from ofmu_jax.losses.tokens import ApplyFn
from ofmu_jax.methods.base import Method, Params
from ofmu_jax.methods.language import configs
from ofmu_jax.methods.rules.frozen import copy_params, with_frozen
from ofmu_jax.methods.rules.primal_dual import primal_dual
from ofmu_jax.methods.rules.weighted import gradient_ascent, weighted_difference


class Setting(NamedTuple):
    """What a run gives every method."""

    apply_fn: ApplyFn
    optimizer: optax.GradientTransformation
    hidden_fn: HiddenFn | None = None  # of the layer that the config names
    budget: float | None = None  # gradient evaluations of the whole run
    micro_batches: int = 1  # that every loss is computed in, see `accumulation`


def ascent(config: configs.AscentConfig, setting: Setting) -> Method:
    """Gradient ascent; the config is empty."""
    loss = _of(likelihood.negated_cross_entropy, setting)
    return gradient_ascent(loss, setting.optimizer)


def ceu(config: configs.CeuConfig, setting: Setting) -> Method:
    """CE-U, without a retain term as published."""
    loss = functools.partial(
        distillation.ceu, setting.apply_fn, skip_first=config.skip_first
    )
    weight = later_answer_tokens(config.skip_first)
    loss = accumulated(loss, setting.micro_batches, weight)
    return gradient_ascent(loss, setting.optimizer)


def plain(loss: Callable, *fields: str, rule=weighted_difference, forget_cost=1):
    """Builds γ ``loss`` + α R, the loss a function of these fields of the config."""

    def build_method(config, setting: Setting) -> Method:
        options = {field: getattr(config, field) for field in fields}
        forget = _of(loss, setting, **options)
        retain, passes = _retain(config, setting)

        def with_reference(reference):
            return rule(
                forget,
                functools.partial(retain, reference=reference),
                setting.optimizer,
                forget_weight=config.gamma,
                retain_weight=config.alpha,
                forget_cost=forget_cost,
            )

        if passes == 0:
            return with_reference(None)
        return with_frozen(with_reference, forward_passes=passes)

    return build_method


def undial(config: configs.UndialConfig, setting: Setting) -> Method:
    """γ UNDIAL + α R; the teacher passes over the forget rows at every update."""
    retain, passes = _retain(config, setting)
    forget = _of(
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


def rmu(config: configs.RmuConfig, setting: Setting, rule=weighted_difference):
    """γ RMU + α R; the control vector is in the state, as is the model before.

    The loss has no gradient beyond the layer, but weight decay would still shrink
    what lies there: leave it out, or mask those parameters in the optimizer. The
    cost counts whole passes; a ``hidden_fn`` that stops at its layer takes less.
    """
    hidden_fn = _hidden_fn(config, setting)
    retain, passes = _retain(config, setting)
    options = {"positions": config.positions, "compat": config.compat}
    forget = _of_hidden(representation.rmu_forget, hidden_fn, setting, **options)

    def freeze(params: Params) -> dict[str, Any]:
        token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        size = jax.eval_shape(hidden_fn, params, token, token).shape[-1]
        key = jax.random.key(config.seed)
        control = representation.control_vector(key, size, config.steering)
        reference = copy_params(params) if passes else None
        return {"control": control, "reference": reference}

    def with_control(frozen):
        frozen = frozen or {"control": None, "reference": None}
        return rule(
            lambda p, b: forget(p, b, frozen["control"]),
            functools.partial(retain, reference=frozen["reference"]),
            setting.optimizer,
            forget_weight=config.gamma,
            retain_weight=config.alpha,
        )

    return with_frozen(with_control, forward_passes=passes, freeze=freeze)


def pdu(config: configs.PduConfig, setting: Setting) -> Method:
    """PDU with the retain cross-entropy as its constraint."""
    if setting.budget is None and config.warmup_fraction:
        raise ValueError(
            "pdu needs Setting.budget, the gradient evaluations of the run, for its "
            "warm-up; or set warmup_fraction to 0."
        )
    updates = (setting.budget or 0) // 2  # an update takes two gradients
    return primal_dual(
        _of(margin.logit_margin, setting, positions=config.positions),
        _of(likelihood.cross_entropy, setting),
        setting.optimizer,
        epsilon=config.epsilon,
        forget_weight=config.gamma,
        multiplier=config.multiplier,
        dual_step=config.dual_step,
        warmup_updates=round(config.warmup_fraction * updates),
    )


def _retain(config, setting: Setting) -> tuple[Callable, int]:
    """R of ``(params, batch, reference)``, and its passes through a frozen model."""
    passes = 0 if is_static_zero(config.alpha) else 1
    if config.retain == "nll":
        loss = _of(likelihood.cross_entropy, setting)
        return lambda p, b, reference: loss(p, b), 0
    if config.retain == "kl":
        loss = _of(distillation.kl_to_reference, setting, positions=config.positions)
        return lambda p, b, reference: loss(p, b, reference), passes
    if config.retain == "hidden":
        loss = _of_hidden(
            representation.rmu_retain,
            _hidden_fn(config, setting),
            setting,
            positions=config.positions,
            compat=config.compat,
        )
        return lambda p, b, reference: loss(p, b, reference), passes
    raise ValueError(
        f"retain={config.retain!r} is unknown; choose nll or kl, or hidden for RMU."
    )


def _of(loss: Callable, setting: Setting, **options: Any) -> Callable:
    """The loss as a function of ``(params, batch, *more)``, in micro-batches."""
    weight = MEAN_OVER[loss]
    if "positions" in options:
        # A choice that there is not is refused by the loss itself.
        weight = OF_POSITIONS.get(options["positions"], weight)
    made = functools.partial(loss, setting.apply_fn, **options)
    return accumulated(made, setting.micro_batches, weight)


def _of_hidden(
    loss: Callable, hidden_fn: HiddenFn, setting: Setting, **options: Any
) -> Callable:
    """The same for a loss on hidden states: a mean over rows, but for compat."""
    if options["compat"] and setting.micro_batches > 1:
        raise ValueError(
            "RMU's compat loss multiplies means over the rows of a batch, so it is no "
            "sum over micro-batches; use --grad-accum 1, or compat=False."
        )
    made = functools.partial(loss, hidden_fn, **options)
    return accumulated(made, setting.micro_batches, rows)


def _hidden_fn(config: configs.RmuConfig, setting: Setting) -> HiddenFn:
    if setting.hidden_fn is None:
        raise ValueError(
            "RMU needs Setting.hidden_fn, which returns the output of decoder layer "
            f"{config.layer} as (B, L, D)."
        )
    return setting.hidden_fn
