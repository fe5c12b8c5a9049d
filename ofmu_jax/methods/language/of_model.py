"""A method on a model: its losses on the forward pass, or on that of a part of it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from ofmu_jax.losses.tokens import ApplyFn
from ofmu_jax.methods.base import Method
from ofmu_jax.methods.language import registry
from ofmu_jax.methods.language.setting import Moments, Setting
from ofmu_jax.methods.parts.lora import Lora
from ofmu_jax.methods.parts.subset import Part, of_part
from ofmu_jax.methods.traced import with_numbers
from ofmu_jax.models.llama.adapters import with_adapters

HiddenFnOf = Callable[[int], Callable]


def of_model(
    name: str,
    config: Any,
    budget: int,
    apply_fn: ApplyFn,
    hidden_fn_of: HiddenFnOf | None = None,
    micro_batches: int = 1,
    part: Part | None = None,
    moments_dtype: Moments = "float32",
) -> Method:
    """The method ``name``; configurations that differ in numbers share one program.

    Args:
      name: the method.
      config: its configuration.
      budget: gradient evaluations of the whole run.
      apply_fn: the model.
      hidden_fn_of: from a layer to the function of RMU's hidden states.
      micro_batches: that every loss is computed in.
      part: of the parameters that the method is one of (`methods.of_part`).
      moments_dtype: of AdamW.

    Raises:
      ValueError: for an unknown name, or a configuration that does not work.
    """
    scale = None
    if isinstance(part, Lora):  # its α is a number too
        scale, part = part.scale, dataclasses.replace(part, alpha=1.0)
    numbers = config, float(budget), scale
    more = apply_fn, hidden_fn_of, micro_batches, part, moments_dtype
    return with_numbers(_of_model, numbers, name, *more)


def _of_model(
    numbers: Any,
    name: str,
    apply_fn: ApplyFn,
    hidden_fn_of: HiddenFnOf | None,
    micro_batches: int,
    part: Part | None,
    moments_dtype: Moments,
) -> Method:
    config, budget, scale = numbers
    needs_hidden_fn = registry.METHODS[name].needs_hidden_fn

    def build(apply_fn: ApplyFn, lift: Callable = lambda f: f) -> Method:
        hidden_fn = None
        if needs_hidden_fn and hidden_fn_of is not None:
            hidden_fn = lift(hidden_fn_of(config.loss.layer))
        setting = Setting(
            apply_fn, None, hidden_fn, budget, micro_batches, moments_dtype
        )
        return registry.build(name, setting, config)

    if part is None:
        return build(apply_fn)
    merge = part.merge
    if isinstance(part, Lora):  # within the layers, where it takes less memory
        merge = functools.partial(with_adapters, scale=scale)
    return of_part(lambda lift: build(lift(apply_fn), lift), merge)
