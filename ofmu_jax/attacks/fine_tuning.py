"""Further training of a model under attack, looked at on the way."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from ofmu_jax import methods
from ofmu_jax.attacks.base import Params, Subject
from ofmu_jax.data.language import batches
from ofmu_jax.data.language.prompts import Encoded
from ofmu_jax.losses import likelihood
from ofmu_jax.losses.tokens import ApplyFn
from ofmu_jax.methods import Lora, Method, schedules
from ofmu_jax.methods.language.setting import clipped_adamw
from ofmu_jax.models.llama.adapters import with_adapters
from ofmu_jax.training.loop import Step, committed
from ofmu_jax.training.watch import copied

LENGTHS = 32  # rows of a batch are padded to a multiple of it: few programs


class Recipe(NamedTuple):
    """AdamW on the answers, without weight decay, gradients clipped to norm 1."""

    rate: float
    batch_size: int
    warmup: float = 0.0  # updates, in a line from 0
    until: float = math.inf  # update at which the rate is 0, in a line; never
    lora: Lora | None = None  # adapters in place of all parameters


def method_of(apply_fn: ApplyFn, recipe: Recipe) -> Method:
    """The update; recipes that differ in numbers alone share one program."""
    numbers = recipe.rate, recipe.warmup, recipe.until
    return methods.with_numbers(_method, numbers, apply_fn, recipe.lora)


def _method(numbers: Any, apply_fn: ApplyFn, lora: Lora | None) -> Method:
    optimizer = clipped_adamw(schedules.warmup_linear(*numbers), 0.0, "float32")

    def build(apply: ApplyFn) -> Method:
        loss = functools.partial(likelihood.cross_entropy, apply)
        return methods.fine_tune(loss, optimizer)

    if lora is None:
        return build(apply_fn)
    merge = functools.partial(with_adapters, scale=lora.scale)
    return methods.of_part(lambda lift: build(lift(apply_fn)), merge)


def trained(
    subject: Subject,
    params: Params,
    examples: Sequence[Encoded],
    recipe: Recipe,
    looks: Sequence[int],
    *,
    seed: int = 0,
    on_update: Callable[[], None] = lambda: None,
) -> Iterator[Params]:
    """The parameters after each of the ``looks`` updates, which ascend.

    They are to be used before the next ones are asked for, which take their memory;
    ``params`` stay as they are.

    Args:
      examples: what is taught, reshuffled each epoch.
      seed: of the order, and of adapters.
      on_update: called after every update.
    """
    method = method_of(subject.apply_fn, recipe)
    step = Step(method)
    if recipe.lora is None:
        part, fixed, whole = copied(params), (), lambda found: found
    else:
        part, rest = recipe.lora.split(params, jax.random.key(seed))
        fixed = (rest,)
        whole = functools.partial(_merged, recipe.lora, rest)
    state = method.init(part, *fixed)
    part, state, fixed = committed((part, state, fixed), params)
    stream = batches.single_batches(
        examples,
        recipe.batch_size,
        seed,
        num_stack=1,
        trim_to=LENGTHS,
        **subject.padding,
    )
    for done in range(1, max(looks) + 1):
        part, state, _ = step(part, state, {"retain": next(stream)}, *fixed)
        on_update()
        if done in looks:
            yield whole(part)


def _merged(lora: Lora, rest: Params, part: Any) -> Params:
    return lora.merge(part, rest)
