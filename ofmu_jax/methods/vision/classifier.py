"""What makes a method one for classifiers: augmentation, and BatchNorm's averages.

Inside, a method of `methods.base` sees parameters and losses of them. Around it,
`vision_method` augments the batches, hands the running averages to the losses that
want them, and moves the averages once the update is accepted: no loss moves them, so
neither the steps within an inner loop nor any derivative does.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ofmu_jax.data.vision.augment import augment
from ofmu_jax.losses.vision import LogitsFn
from ofmu_jax.methods.base import Batches, Method
from ofmu_jax.methods.rules.frozen import FORWARD_COST
from ofmu_jax.models import resnet
from ofmu_jax.models.resnet import ResNetConfig, Variables

Part = Literal["forget", "retain", "union"]
AUGMENT, RANDOM_LABELS = 0, 1  # what a batch's key is used for


class Context(NamedTuple):
    """What a method's losses may use beside the parameters, constant in an update."""

    batch_stats: Any  # running averages
    frozen: Any = None  # what ``freeze`` made before the first update


class VisionState(NamedTuple):
    """State of a `vision_method`."""

    inner: optax.OptState  # of the method on parameters
    frozen: Any


class Prepare(NamedTuple):
    """Augments stacked batches and adds ``random_labels``, on the device."""

    num_classes: int
    padding: int
    flip: bool

    def __call__(self, batches: Batches) -> Batches:
        """Prepares ``{part: batch}``, leaves (S, B, …); equal draw, equal result."""
        keys = jax.random.split(jax.random.key(0), len(batches))
        prepare = lambda key, stack: jax.vmap(lambda b: self._one(b, key))(stack)
        parts = zip(sorted(batches), keys, strict=True)
        return {part: prepare(key, batches[part]) for part, key in parts}

    def _one(self, batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        for number in batch["draw"]:
            key = jax.random.fold_in(key, number)
        images = augment(
            jax.random.fold_in(key, AUGMENT),
            jnp.asarray(batch["images"]),
            padding=self.padding,
            flip=self.flip,
        )
        drawn = jax.random.randint(
            jax.random.fold_in(key, RANDOM_LABELS),
            batch["labels"].shape,
            0,
            self.num_classes,
        )
        # The labels of random-label methods: drawn for forget images, true for others.
        labels = jnp.where(batch["forget"], drawn, batch["labels"])
        return {**batch, "images": images, "random_labels": labels}


def logits_fn(
    config: ResNetConfig, context: Context, norm: Literal["batch", "running"] = "batch"
) -> LogitsFn:
    """(params, images) -> logits, normalised by the batch or the running averages."""
    if norm not in ("batch", "running"):
        raise ValueError(f"norm={norm!r} is unknown; choose batch or running.")
    train = norm == "batch"
    return lambda params, images: resnet.apply(
        config, params, context.batch_stats, images, train
    )[0]


def vision_method(
    build: Callable[[Context], Method],
    setting: Any,
    averages_from: Part,
    *,
    averages: Literal["before", "after"] = "before",
    last: int | None = None,
    freeze: Callable[[Variables], Any] = lambda variables: None,
    extra_cost: float = 0.0,
) -> Method:
    """A method on `Variables` from one on parameters.

    Args:
      build: from the context to the method; called within every update, so it must
        not look into the context while building, only its losses may.
      setting: its ``config`` is the network, its ``prepare`` is applied to the batches.
      averages_from: whose batches move the running averages.
      averages: ``"before"``: those of the forward pass that the update's own gradient
        takes, as in PyTorch's training mode, at no cost; ``"after"``: of passes at
        the updated parameters, a third of a gradient each.
      last: only so many of the last stacked batches; None: all.
      freeze: from the variables at init to what stays as it was.
      extra_cost: gradients of one batch that an update takes besides the method's.
    """
    outline = build(Context(None))
    passes = outline.batches_per_update if last is None else last

    def init(variables: Variables) -> VisionState:
        return VisionState(outline.init(variables.params), freeze(variables))

    def update(variables: Variables, state: Any, batches: Batches):
        batches = setting.prepare(batches)
        method = build(Context(variables.batch_stats, state.frozen))
        params, inner, metrics = method.update(variables.params, state.inner, batches)
        at = variables.params if averages == "before" else params
        stats, images = variables.batch_stats, batches[averages_from]["images"]
        for place in range(len(images) - passes, len(images)):
            _, stats = resnet.apply(setting.config, at, stats, images[place], True)
        return Variables(params, stats), VisionState(inner, state.frozen), metrics

    cost = outline.gradient_evaluations + extra_cost
    if averages == "after":
        cost += passes * FORWARD_COST
    return outline._replace(init=init, update=update, gradient_evaluations=cost)


def sgd(
    rate: float | optax.Schedule,
    weight_decay: float,
    *before: optax.GradientTransformation,
    momentum: float = 0.9,
) -> optax.GradientTransformation:
    """SGD with momentum and weight decay in the gradient, as the field trains."""
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(*before, decay, optax.sgd(rate, momentum=momentum))


class CountState(NamedTuple):
    """Number of updates done; shape=(), dtype=int32."""

    count: jax.Array


def add_l1(weight: Callable[[jax.Array], Any]) -> optax.GradientTransformation:
    """Adds the subgradient of w_k ‖θ‖₁, sign(θ), with w_k = ``weight(k)``.

    >>> tx = add_l1(lambda k: 0.5)
    >>> theta = jnp.array([2.0, 0.0, -3.0])
    >>> print(tx.update(jnp.zeros(3), tx.init(theta), theta)[0])
    [ 0.5  0.  -0.5]
    """

    def init(params) -> CountState:
        return CountState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "add_l1 needs params: call tx.update(grads, state, params)."
            )
        w = weight(state.count)
        added = jax.tree.map(lambda g, p: g + w * jnp.sign(p), updates, params)
        return added, CountState(jnp.asarray(optax.safe_increment(state.count)))

    return optax.GradientTransformation(init, update)


def only_where(
    mask: Any, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The optimizer, but weights whose mask is 0 never move (by decay neither)."""

    def update(updates, state, params=None):
        times = lambda tree: jax.tree.map(lambda x, m: x * m, tree, mask)
        updates, state = optimizer.update(times(updates), state, params)
        return times(updates), state

    return optax.GradientTransformation(optimizer.init, update)
