"""From configurations to optimizers and methods."""

import functools
from collections.abc import Callable
from typing import Literal

import optax

from experiments.recipes import LanguageRun, OfmuConfig, TrainConfig
from ofmu_jax import methods
from ofmu_jax.losses import language
from ofmu_jax.losses.ascended import ascended_loss
from ofmu_jax.losses.language import ApplyFn
from ofmu_jax.methods import Method, Setting


def fine_tuning(apply_fn: ApplyFn, config: TrainConfig, num_updates: int) -> Method:
    """AdamW with linear warm-up and cosine decay on the cross-entropy."""
    warmup = max(1, round(config.warmup_fraction * num_updates))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(num_updates, warmup + 1)
    )
    return methods.fine_tune(
        functools.partial(language.cross_entropy, apply_fn),
        _clipped_adamw(schedule, config.weight_decay),
    )


def unlearning(
    name: str,
    apply_fn: ApplyFn,
    run: LanguageRun,
    forget_target: float | None,
    hidden_fn_of: Callable[[int], Callable] | None = None,
) -> Method:
    """The method ``name`` with its configuration from ``run``.

    ``hidden_fn_of(layer)`` gives the function of RMU's hidden states.

    Raises:
      ValueError: for an unknown name, or target_cross_entropy without a target.
    """
    if name == "ofmu":
        return _ofmu(apply_fn, run.ofmu, forget_target)
    config, hidden_fn = run.method(name), None
    if methods.METHODS[name].needs_hidden_fn and hidden_fn_of is not None:
        hidden_fn = hidden_fn_of(config.loss.layer)
    setting = Setting(
        apply_fn,
        _clipped_adamw(config.learning_rate, config.weight_decay),
        hidden_fn,
        run.budget.gradient_evaluations,
    )
    return methods.build(name, setting, config.loss)


def needs(
    name: str, run: LanguageRun, what: Literal["reference_nll", "alternative"]
) -> bool:
    """True if the forget batches of a method must carry it."""
    if name == "ofmu":
        return what == "reference_nll" and run.ofmu.forget_loss == "npo"
    return getattr(methods.METHODS[name], f"needs_{what}")


def _clipped_adamw(
    rate: float | optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=weight_decay)
    )


def _ofmu(apply_fn: ApplyFn, config: OfmuConfig, forget_target: float | None) -> Method:
    if config.forget_loss == "target_cross_entropy" and forget_target is None:
        raise ValueError(
            "target_cross_entropy needs a forget target: set --budget.forget-target "
            "to reference, chance or a number, or choose another --ofmu.forget-loss."
        )
    rate = config.inner_learning_rate
    inner = {
        "sgd": optax.sgd(rate),
        "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate)),
        "normalized": optax.chain(optax.normalize_by_update_norm(), optax.sgd(rate)),
        "adam": optax.adam(rate),
    }[config.inner_optimizer]
    outer = {
        "sgd": optax.sgd(config.outer_learning_rate),
        "adamw": _clipped_adamw(config.outer_learning_rate, config.weight_decay),
    }[config.outer_optimizer]
    rho = config.rho
    if rho and config.rho_growth != 1.0:
        rho = optax.exponential_decay(config.rho, 1, config.rho_growth)
    return methods.ofmu_method(
        ascended_loss(
            config.forget_loss,
            apply_fn,
            target=None if forget_target is None else config.ceiling * forget_target,
            npo_beta=config.npo_beta,
            simnpo_beta=config.simnpo_beta,
        ),
        functools.partial(language.cross_entropy, apply_fn),
        outer_optimizer=outer,
        inner_optimizer=inner,
        inner_steps=config.inner_steps,
        outer_steps=config.outer_steps,
        beta=config.beta,
        rho=rho,
        similarity=config.similarity,
        base=config.base,
        curvature=config.curvature,
        retain_direction=config.retain_direction,
        penalty_gradient=config.penalty_gradient,
        penalty_clip=config.penalty_clip,
    )
