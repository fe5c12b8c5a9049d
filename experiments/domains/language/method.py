"""From configurations to optimizers and methods."""

import functools
from typing import Any

from experiments.config.language import LanguageRun, TrainConfig
from ofmu_jax import methods
from ofmu_jax.losses import likelihood
from ofmu_jax.losses.accumulation import accumulated, answer_tokens
from ofmu_jax.losses.likelihood import ApplyFn
from ofmu_jax.methods import Lora, Method, Part, Subset, Unmerged, schedules
from ofmu_jax.methods.language.setting import Moments, clipped_adamw


def fine_tuning(
    apply_fn: ApplyFn,
    config: TrainConfig,
    num_updates: int,
    micro_batches: int = 1,
    moments_dtype: Moments = "float32",
) -> Method:
    """AdamW with linear warm-up and cosine decay on the cross-entropy.

    One program, whatever the rates and the number of updates are.
    """
    warmup = max(1, round(config.warmup_fraction * num_updates))
    span = float(warmup), float(max(num_updates, warmup + 1))
    numbers = config.learning_rate, config.weight_decay, span
    static = apply_fn, micro_batches, moments_dtype
    return methods.with_numbers(_fine_tuning, numbers, *static)


def _fine_tuning(
    numbers: Any, apply_fn: ApplyFn, micro_batches: int, moments_dtype: Moments
) -> Method:
    rate, weight_decay, span = numbers
    loss = functools.partial(likelihood.cross_entropy, apply_fn)
    return methods.fine_tune(
        accumulated(loss, micro_batches, answer_tokens),
        clipped_adamw(
            schedules.warmup_cosine(rate, *span), weight_decay, moments_dtype
        ),
    )


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
