"""Random labels, and SalUn (arXiv 2310.12508): the same where a mask lets weights move.

The mask is where forgetting has a large gradient.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ofmu_jax.bounds import Bound, Positive
from ofmu_jax.data.vision.images import Labelled
from ofmu_jax.losses import vision
from ofmu_jax.methods.base import Method, Range, Spec
from ofmu_jax.methods.rules.weighted import descend
from ofmu_jax.methods.traced import with_numbers
from ofmu_jax.methods.vision.classifier import (
    Context,
    Prepare,
    logits_fn,
    only_where,
    vision_method,
)
from ofmu_jax.methods.vision.descent import RATE, Descent, descent
from ofmu_jax.methods.vision.setting import Compiled, Plan, Setting, Stream
from ofmu_jax.models.resnet import ResNetConfig, Variables

Order = Literal["auto", "sequential", "mixed"]


@dataclasses.dataclass(frozen=True)
class RandomLabel(Descent):
    """RL: forget images with labels drawn afresh, then retain images."""

    order: Order = "auto"
    """sequential: all forget, then all retain images an epoch; mixed: one shuffle;
    auto: as published, mixed where there are 100 classes or more."""


@dataclasses.dataclass(frozen=True)
class SalUn(RandomLabel):
    """RL on the weights with the largest forget gradient."""

    learning_rate: Positive = 0.013
    density: Annotated[float, Bound(0, 1, above=True)] = 0.5
    """Share of weights that may move."""


def numbered(part: Labelled, batch_size: int, seed: int) -> list[dict[str, Any]]:
    """All forget images once, in order, as batches; the last may be shorter."""
    return [
        {
            "images": part.images[start : start + batch_size],
            "labels": part.labels[start : start + batch_size],
            "forget": np.full(len(part.labels[start : start + batch_size]), True),
            "draw": np.array([seed, step], np.uint32),
        }
        for step, start in enumerate(range(0, len(part), batch_size))
    ]


def num_batches(part: Labelled, batch_size: int) -> int:
    """How many batches `numbered` makes."""
    return math.ceil(len(part) / batch_size)


def total_gradient(
    config: ResNetConfig,
    variables: Variables,
    part: Labelled,
    batch_size: int,
    prepare: Prepare | None = None,
    seed: int = 0,
) -> Any:
    """∇ of the summed NLL of a set in evaluation mode, a tree like the parameters.

    Args:
      prepare: augments the batches (SalUn's mask is taken so); None: as they are.
      seed: of the augmentation.
    """

    total = optax.tree.zeros_like(variables.params)  # where the parameters are
    for batch in numbered(part, batch_size, seed):
        total = _add_gradient(config, prepare, total, *variables, batch)
    return total


@functools.partial(jax.jit, static_argnums=(0, 1))
def _add_gradient(config, prepare, total, params, stats, batch):
    if prepare is not None:
        stacked = jax.tree.map(lambda x: jnp.asarray(x)[None], batch)
        prepared = prepare({"forget": stacked})["forget"]
        batch = jax.tree.map(lambda x: x[0], prepared)
    logits = logits_fn(config, Context(stats), "running")
    count = batch["labels"].shape[0]
    loss = lambda p: count * vision.cross_entropy(logits, p, batch)
    return optax.tree.add(total, jax.grad(loss)(params))


def top_share(tree: Any, density: float) -> Any:
    """1 at the ``density`` share of entries with the largest magnitude, else 0.

    The threshold is one for the whole tree; of equal magnitudes those that come first
    are taken.

    >>> top_share({"a": jnp.array([3.0, -1.0]), "b": jnp.array([[-2.0, 0.5]])}, 0.5)
    {'a': Array([1., 0.], dtype=float32), 'b': Array([[1., 0.]], dtype=float32)}
    """
    if not 0 < density <= 1:
        raise ValueError(f"density is {density}; give a share in (0, 1].")
    return _largest(tree, round(density * sum(x.size for x in jax.tree.leaves(tree))))


@jax.jit
def _largest(tree: Any, count: int) -> Any:
    """1 at so many of the largest magnitudes, one program for every number of them."""
    leaves, structure = jax.tree.flatten(tree)
    sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]
    flat = jnp.concatenate([jnp.abs(leaf).ravel() for leaf in leaves])
    chosen = (jnp.arange(flat.size) < count).astype(jnp.float32)
    mask = jnp.zeros_like(chosen).at[jnp.argsort(-flat, stable=True)].set(chosen)
    parts = zip(jnp.split(mask, sizes), leaves, strict=True)
    masks = [part.reshape(leaf.shape) for part, leaf in parts]
    return jax.tree.unflatten(structure, masks)


def random_label(config: RandomLabel, setting: Setting) -> Plan:
    """Descends on the labels that `Prepare` draws."""
    method = descent(setting, Descent.sgd, config, _random_labels, "union")
    return Plan(method, _order(config, setting))


def _order(config: RandomLabel, setting: Setting) -> Stream:
    if config.order != "auto":
        return config.order
    return "mixed" if setting.config.num_classes >= 100 else "sequential"


def _random_labels(
    logits_fn: vision.LogitsFn, params: Any, batch: Mapping[str, Any]
) -> jax.Array:
    return vision.cross_entropy(logits_fn, params, batch, "random_labels")


def salun(config: SalUn, setting: Setting) -> Plan:
    """The same with a mask, made before the first update."""
    masked = with_numbers(_masked, config, *setting.compiled)

    def init(variables: Variables) -> Any:
        forget, size = setting.forget, setting.batch_size
        more = setting.prepare, setting.seed
        gradient = total_gradient(setting.config, variables, forget, size, *more)
        mask = top_share(gradient, config.density)
        state: Any = masked.init(variables)
        return state._replace(frozen=mask)

    cost = num_batches(setting.forget, setting.batch_size)
    order = _order(config, setting)
    return Plan(masked._replace(init=init), order, setup_cost=cost)


def _masked(config: SalUn, *compiled) -> Method:
    setting, plain = Compiled(*compiled), config.sgd()

    def build(context: Context) -> Method:
        optimizer = plain
        if context.frozen is not None:  # absent only in the outline
            optimizer = only_where(context.frozen, plain)
        loss = functools.partial(_random_labels, logits_fn(setting.config, context))
        return descend(loss, optimizer, "union")

    return vision_method(build, setting, "union")


RANDOM_LABEL = Spec("Random labels", "1911.04933", RandomLabel(), random_label, RATE)
SALUN = Spec("SalUn", "2310.12508", SalUn(), salun, RATE | {"density": Range(0.1, 0.9)})
