"""From configurations to optimizers and methods."""

import functools

import optax

from experiments.recipes import BaselineConfig, LanguageRun, OfmuConfig, TrainConfig
from ofmu_jax import methods
from ofmu_jax.losses import language
from ofmu_jax.losses.language import ApplyFn
from ofmu_jax.methods import Method


def fine_tuning(apply_fn: ApplyFn, config: TrainConfig, num_updates: int) -> Method:
    """AdamW with linear warm-up and cosine decay on the cross-entropy."""
    warmup = max(1, round(config.warmup_fraction * num_updates))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(num_updates, warmup + 1)
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )
    return methods.fine_tune(
        functools.partial(language.cross_entropy, apply_fn), optimizer
    )


def unlearning(
    name: str, apply_fn: ApplyFn, run: LanguageRun, forget_target: float | None
) -> Method:
    """The method ``name`` with its configuration from ``run``.

    Raises:
      ValueError: for an unknown name, or target_cross_entropy without a target.
    """
    cross_entropy = functools.partial(language.cross_entropy, apply_fn)
    if name == "ofmu":
        return _ofmu(apply_fn, run.ofmu, forget_target)
    if name == "gradient_ascent":
        return methods.gradient_ascent(
            lambda p, b: -cross_entropy(p, b), _adamw(run.gradient_ascent)
        )
    if name == "grad_diff":
        return _weighted(lambda p, b: -cross_entropy(p, b), apply_fn, run.grad_diff)
    if name == "npo":
        loss = functools.partial(language.npo, apply_fn, npo_beta=run.npo.npo_beta)
        return _weighted(loss, apply_fn, run.npo)
    raise ValueError(
        f"method {name!r} is unknown; "
        "choose from ofmu, gradient_ascent, grad_diff and npo."
    )


def needs_reference_nll(name: str, run: LanguageRun) -> bool:
    """True if the method's forget batches must carry the NLL before unlearning."""
    return name == "npo" or (name == "ofmu" and run.ofmu.forget_loss == "npo")


def _adamw(config: BaselineConfig) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(config.learning_rate, weight_decay=config.weight_decay),
    )


def _weighted(forget_loss, apply_fn: ApplyFn, config: BaselineConfig) -> Method:
    return methods.weighted_difference(
        forget_loss,
        functools.partial(language.cross_entropy, apply_fn),
        _adamw(config),
        forget_weight=config.forget_weight,
        retain_weight=config.retain_weight,
    )


def _ofmu(apply_fn: ApplyFn, config: OfmuConfig, forget_target: float | None) -> Method:
    cross_entropy = functools.partial(language.cross_entropy, apply_fn)
    if config.forget_loss == "cross_entropy":
        forget_loss = cross_entropy
    elif config.forget_loss == "npo":
        minimised = functools.partial(language.npo, apply_fn, npo_beta=config.npo_beta)
        forget_loss = lambda p, b: -minimised(p, b)
    elif forget_target is None:
        raise ValueError(
            "target_cross_entropy needs a forget target: set --budget.forget-target "
            "to reference, chance or a number, or choose another --ofmu.forget-loss."
        )
    else:
        forget_loss = functools.partial(
            language.target_cross_entropy,
            apply_fn,
            target=config.ceiling * forget_target,
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
        "adamw": optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(config.outer_learning_rate, weight_decay=config.weight_decay),
        ),
    }[config.outer_optimizer]
    rho = config.rho
    if rho and config.rho_growth != 1.0:
        rho = optax.exponential_decay(config.rho, 1, config.rho_growth)
    return methods.ofmu_method(
        forget_loss,
        cross_entropy,
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
