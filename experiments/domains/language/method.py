"""From configurations to optimizers and methods."""

import functools
from collections.abc import Callable
from typing import Any

import optax

from experiments.config.language import LanguageRun, TrainConfig
from ofmu_jax import methods
from ofmu_jax.losses import likelihood
from ofmu_jax.losses.accumulation import accumulated, answer_tokens
from ofmu_jax.losses.likelihood import ApplyFn
from ofmu_jax.methods import METHODS, Lora, Method, Part, Setting, Subset, Unmerged
from ofmu_jax.methods.language.setting import clipped_adamw
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
        clipped_adamw(schedule, config.weight_decay),
    )


@functools.lru_cache(maxsize=64)
def unlearning(
    name: str,
    config: Any,
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
    needs_hidden_fn = METHODS[name].needs_hidden_fn

    def build(apply_fn: ApplyFn, lift: Callable = lambda f: f) -> Method:
        hidden_fn = None
        if needs_hidden_fn and hidden_fn_of is not None:
            hidden_fn = lift(hidden_fn_of(config.loss.layer))
        setting = Setting(apply_fn, None, hidden_fn, budget, micro_batches)
        return methods.build(name, setting, config)

    if part is None:
        return build(apply_fn)
    merge = part.merge
    if isinstance(part, Lora):  # within the layers, where it takes less memory
        merge = functools.partial(with_adapters, scale=part.scale)
    return methods.of_part(lambda lift: build(lift(apply_fn), lift), merge)


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
    lora = run.lora
    for field in ("base", "dtype", "export_adapter"):
        value = getattr(lora, field)
        if not lora.rank and value != getattr(type(lora), field):
            raise ValueError(
                f"--lora.{field.replace('_', '-')} {value} goes with adapters, and "
                "there are none: give their rank, such as --lora.rank 16, or leave it "
                "out."
            )
    option = "--lora" if run.trainable is None else "--trainable"
    try:
        if run.trainable is not None:
            return Subset(run.trainable)
        kind = Unmerged if lora.unmerged else Lora
        sizes = (lora.rank, lora.alpha, lora.targets, lora.dtype)
        return kind(*sizes) if lora.rank else None
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
