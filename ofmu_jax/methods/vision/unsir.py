"""UNSIR (Tarun et al., arXiv 2111.08947): impair by error-maximising noise, repair.

Noise that the model is most wrong about, labelled as what is to be forgotten, is
trained on among retain images; then retain images alone, which mends what else broke.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ofmu_jax.bounds import Count, NotNegative, Positive, Share
from ofmu_jax.losses import vision
from ofmu_jax.methods.base import Method, Range, Spec
from ofmu_jax.methods.rules.weighted import descend
from ofmu_jax.methods.traced import with_numbers
from ofmu_jax.methods.vision.classifier import Context, logits_fn, vision_method
from ofmu_jax.methods.vision.setting import Compiled, Plan, Setting
from ofmu_jax.models.resnet import ResNetConfig, Variables


@dataclasses.dataclass(frozen=True)
class Unsir:
    """UNSIR: trained on noise with forgotten labels among retain images, then on these.

    Values are those of its authors' code for ResNet-18 on CIFAR-10. There each phase is
    one pass over 1000 images of each retained class, and all noise has one class; here
    impairing is a pass over all retain images, repairing takes the rest of the budget,
    and noise has the labels of forget images that are drawn.
    """

    impair_learning_rate: Positive = 0.02
    """Of Adam, while noise is among the images."""
    repair_learning_rate: Positive = 0.01
    """Of Adam afterwards, which starts afresh."""
    impair_epochs: Positive = 1.0
    """Passes over the retain images with noise among them, for at most half of the
    updates."""
    noise_share: Share = 0.36
    """Share of noise in a batch: 20 batches of it beside 35 of retain images, as
    published for one class. (The published code takes three images of each.)"""
    noise_steps: Count = 40
    """Steps of Adam on the noise, before the first update."""
    noise_learning_rate: Positive = 0.1
    noise_penalty: NotNegative = 0.1
    """λ, weight of the noise's squared norm."""


class Phases(NamedTuple):
    """State of `impair_then_repair`."""

    count: jax.Array  # updates done; shape=(), dtype=int32
    adam: optax.OptState


def impair_then_repair(
    impair_rate: Any, repair_rate: Any, impair_updates: Any
) -> optax.GradientTransformation:
    """Adam for so many updates, then another one from a fresh state."""
    adam = optax.scale_by_adam()

    def init(params):
        return Phases(jnp.zeros((), jnp.int32), adam.init(params))

    def update(updates, state, params=None):
        fresh = state.count == impair_updates
        moments = optax.tree.where(fresh, adam.init(updates), state.adam)
        rate = jnp.where(state.count < impair_updates, impair_rate, repair_rate)
        updates, moments = adam.update(updates, moments, params)
        count = jnp.asarray(optax.safe_increment(state.count))
        return optax.tree.scale(-rate, updates), Phases(count, moments)

    return optax.GradientTransformation(init, update)


def noise_loss(
    config: ResNetConfig, variables: Variables, noise: jax.Array, labels, penalty
) -> jax.Array:
    """−CE + λ mean ‖noise‖², in evaluation mode.

    Args:
      noise: (B, H, W, C), as the network sees images: (pixels / 255 − mean) / std.
    """
    logits = logits_fn(config, Context(variables.batch_stats), "running")
    batch = {"images": as_pixels(config, noise), "labels": labels}
    norms = jnp.sum(jnp.square(noise), (1, 2, 3))
    return penalty * jnp.mean(norms) - vision.cross_entropy(
        logits, variables.params, batch
    )


def as_pixels(config: ResNetConfig, noise: jax.Array) -> jax.Array:
    """The images that the network normalises to ``noise``; pixels may be any number."""
    return 255 * (noise * jnp.array(config.std) + jnp.array(config.mean))


def make_noise(config: Unsir, setting: Setting, variables: Variables) -> dict[str, Any]:
    """A batch of noise: ``images`` (B, H, W, C), ``labels`` (B,) of forget images."""
    forget, size = setting.forget, setting.batch_size
    drawn = np.random.default_rng([setting.seed, 18]).integers(len(forget), size=size)
    labels = jnp.asarray(forget.labels[drawn])
    shape = size, *forget.images.shape[1:]
    noise = jax.random.normal(jax.random.key(setting.seed), shape)
    numbers = config.noise_learning_rate, config.noise_penalty
    moments = optax.scale_by_adam().init(noise)
    for _ in range(config.noise_steps):
        noise, moments = _noise_step(
            setting.config, variables, noise, moments, labels, *numbers
        )
    return {"images": as_pixels(setting.config, noise), "labels": labels}


@functools.partial(jax.jit, static_argnums=0)
def _noise_step(config, variables, noise, moments, labels, rate, penalty):
    loss = lambda noise: noise_loss(config, variables, noise, labels, penalty)
    step, moments = optax.scale_by_adam().update(jax.grad(loss)(noise), moments)
    return noise - rate * step, moments


def with_noise(batch: Any, noise: Any, share: Any, count: Any) -> dict[str, Any]:
    """The first ``share`` of a batch's rows replaced by noise, from another row of it
    on in each update ``count``.

    >>> batch = {"images": jnp.zeros((4, 1, 1, 1)), "labels": jnp.zeros(4, int)}
    >>> noise = {"images": jnp.ones((4, 1, 1, 1)), "labels": jnp.arange(5, 9)}
    >>> print(with_noise(batch, noise, 0.5, 1)["labels"])  # update 0 took 5 and 6
    [7 8 0 0]
    """
    rows = batch["labels"].shape[0]
    replaced = jnp.arange(rows) < jnp.round(share * rows)
    first = count * jnp.sum(replaced)

    def mixed(ours, theirs):
        chosen = replaced.reshape(-1, *(1,) * (ours.ndim - 1))
        shown = jnp.roll(theirs, -first, 0)
        return jnp.where(chosen, shown, ours.astype(shown.dtype))

    return {**batch, **{name: mixed(batch[name], noise[name]) for name in noise}}


def build(config: Unsir, setting: Setting) -> Plan:
    """UNSIR with noise made before the first update."""
    cost = float(config.noise_steps)
    plan = Plan(_unsir((config, 0.0), *setting.compiled), setup_cost=cost)
    updates = config.impair_epochs * len(setting.retain) / setting.batch_size
    most = plan.num_updates(setting.budget) // 2
    numbers = config, float(min(round(updates), most))
    method = with_numbers(_unsir, numbers, *setting.compiled)

    def init(variables: Variables) -> Any:
        state: Any = method.init(variables)
        return state._replace(frozen=make_noise(config, setting, variables))

    return plan._replace(method=method._replace(init=init))


def _unsir(numbers: Any, *compiled) -> Method:
    setting, (config, impair_updates) = Compiled(*compiled), numbers
    rates = config.impair_learning_rate, config.repair_learning_rate
    optimizer = impair_then_repair(*rates, impair_updates)

    def on_parameters(context: Context) -> Method:
        logits = logits_fn(setting.config, context)
        loss = functools.partial(vision.cross_entropy, logits)
        return descend(loss, optimizer, "retain")

    as_they_are: Any = lambda batches: batches  # prepared already
    unprepared = setting._replace(prepare=as_they_are)
    plain = vision_method(on_parameters, unprepared, "retain")

    def update(variables: Variables, state: Any, batches: Any):
        stack, count = setting.prepare(batches)["retain"], state.inner.count
        share = jnp.where(count < impair_updates, config.noise_share, 0.0)
        mix = lambda batch: with_noise(batch, state.frozen, share, count)
        return plain.update(variables, state, {"retain": jax.vmap(mix)(stack)})

    return plain._replace(update=update)


_RATE = Range(1e-3, 1e-1, log=True)
SPEC = Spec(
    "UNSIR",
    "2111.08947",
    Unsir(),
    build,
    {"impair_learning_rate": _RATE, "repair_learning_rate": _RATE},
)
