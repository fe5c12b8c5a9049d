"""From configurations to optimizers and methods."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import optax

from experiments.config.language import Baseline, LanguageRun, OfmuConfig, TrainConfig
from ofmu_jax import methods
from ofmu_jax.losses import likelihood
from ofmu_jax.losses.accumulation import accumulated, answer_tokens, rows
from ofmu_jax.losses.bounded import ascended_loss
from ofmu_jax.losses.likelihood import ApplyFn
from ofmu_jax.methods import Lora, Method, Part, Setting, Subset, inner_optimizers
from ofmu_jax.models.llama.adapters import with_adapters


@functools.lru_cache(maxsize=64)
def fine_tuning(
    apply_fn: ApplyFn, config: TrainConfig, num_updates: int, micro_batches: int = 1
) -> Method:
    """AdamW with linear warm-up and cosine decay on the cross-entropy."""
    warmup = max(1, round(config.warmup_fraction * num_updates))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(num_updates, warmup + 1)
    )
    loss = functools.partial(likelihood.cross_entropy, apply_fn)
    return methods.fine_tune(
        accumulated(loss, micro_batches, answer_tokens),
        _clipped_adamw(schedule, config.weight_decay),
    )


@functools.lru_cache(maxsize=64)
def unlearning(
    name: str,
    config: OfmuConfig | Baseline,
    budget: int,
    apply_fn: ApplyFn,
    hidden_fn_of: Callable[[int], Callable] | None = None,
    micro_batches: int = 1,
    part: Part | None = None,
) -> Method:
    """The method ``name``; equal arguments give the very object, compiled once.

    Args:
      name: the method.
      config: its configuration.
      budget: gradient evaluations of the whole run.
      apply_fn: the model.
      hidden_fn_of: from a layer to the function of RMU's hidden states.
      micro_batches: that every loss is computed in.
      part: of the parameters that the method is one of (`methods.of_part`).

    Raises:
      ValueError: for an unknown name, or a configuration that does not work.
    """
    options = name, config, budget, micro_batches
    if part is None:
        return _unlearning(*options, apply_fn, hidden_fn_of)

    def of_lifted(lift: Callable) -> Method:
        hidden_of = hidden_fn_of and (lambda layer: lift(hidden_fn_of(layer)))
        return _unlearning(*options, lift(apply_fn), hidden_of)

    merge = part.merge
    if isinstance(part, Lora):  # within the layers, where it takes less memory
        merge = functools.partial(with_adapters, scale=part.scale)
    return methods.of_part(of_lifted, merge)


def part_of(run: LanguageRun) -> Part | None:
    """What of the parameters a run unlearns in; None: all of them.

    Raises:
      ValueError: for a bad option, or two that do not go together.
    """
    if run.trainable is not None and run.lora.rank:
        raise ValueError(
            f"--trainable {run.trainable} and --lora.rank {run.lora.rank} exclude each "
            "other: adapters leave all parameters as they are; give one of them "
            "(--lora.targets says which matrices get an adapter)."
        )
    option = "--lora" if run.trainable is None else "--trainable"
    try:
        if run.trainable is not None:
            return Subset(run.trainable)
        return Lora(**dataclasses.asdict(run.lora)) if run.lora.rank else None
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _unlearning(
    name: str,
    config: OfmuConfig | Baseline,
    budget: int,
    micro_batches: int,
    apply_fn: ApplyFn,
    hidden_fn_of: Callable[[int], Callable] | None,
) -> Method:
    if isinstance(config, OfmuConfig):
        return _ofmu(apply_fn, config, micro_batches)
    hidden_fn = None
    if methods.METHODS[name].needs_hidden_fn and hidden_fn_of is not None:
        hidden_fn = hidden_fn_of(config.loss.layer)
    optimizer = _clipped_adamw(config.learning_rate, config.weight_decay)
    setting = Setting(apply_fn, optimizer, hidden_fn, budget, micro_batches)
    return methods.build(name, setting, config.loss)


def needs(
    name: str,
    run: LanguageRun,
    what: Literal["reference_nll", "alternative", "target_nll"],
) -> bool:
    """True if the forget batches of a method must carry it."""
    if name == "ofmu":
        loss = {"reference_nll": "npo", "target_nll": "target_cross_entropy"}
        return run.ofmu.forget_loss == loss.get(what)
    return getattr(methods.METHODS[name], f"needs_{what}", False)


def _clipped_adamw(
    rate: float | optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=weight_decay)
    )


def _ofmu(apply_fn: ApplyFn, config: OfmuConfig, micro_batches: int) -> Method:
    top = inner_optimizers.maximum_of(
        config.forget_loss, config.beta, config.similarity
    )
    outer = {
        "sgd": optax.sgd(config.outer_learning_rate),
        "adamw": _clipped_adamw(config.outer_learning_rate, config.weight_decay),
    }[config.outer_optimizer]
    rho = config.rho
    if rho and config.rho_growth != 1.0:
        rho = optax.exponential_decay(config.rho, 1, config.rho_growth)
    forget = ascended_loss(
        config.forget_loss,
        apply_fn,
        npo_beta=config.npo_beta,
        simnpo_beta=config.simnpo_beta,
    )
    per_token = config.forget_loss == "cross_entropy"
    retain = functools.partial(likelihood.cross_entropy, apply_fn)
    return methods.ofmu_method(
        accumulated(forget, micro_batches, answer_tokens if per_token else rows),
        accumulated(retain, micro_batches, answer_tokens),
        outer_optimizer=outer,
        inner_optimizer=inner_optimizers.inner_optimizer(
            config.inner_optimizer,
            config.inner_learning_rate,
            maximum=top,
            longest=config.inner_max_step,
        ),
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
