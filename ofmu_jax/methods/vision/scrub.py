"""SCRUB (Kurmanji et al. 2023, arXiv 2302.09880): away from the teacher on forget
images, towards it on retain images, by turns."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ofmu_jax._optimizers import Optimizer, optimizer_of
from ofmu_jax.bounds import Count, NotNegative, Positive, Share
from ofmu_jax.losses import vision
from ofmu_jax.methods.base import BatchLoss, Method, Range, Spec, minibatch
from ofmu_jax.methods.rules.frozen import copy_params
from ofmu_jax.methods.traced import with_numbers
from ofmu_jax.methods.vision.classifier import Context, logits_fn, vision_method
from ofmu_jax.methods.vision.descent import Descent
from ofmu_jax.methods.vision.setting import Compiled, Plan, Setting
from ofmu_jax.models.resnet import predict


@dataclasses.dataclass(frozen=True)
class Scrub(Descent):
    """SCRUB: away from the teacher on forget images, towards it on retain images."""

    learning_rate: Positive = 5e-4
    alpha: NotNegative = 0.5
    """α, weight of the divergence on retain images."""
    gamma: NotNegative = 1.0
    """γ, weight of the cross-entropy on retain images."""
    temperature: Positive = 4.0
    min_steps: Count = 1
    """Steps on retain images after each step on forget images."""
    max_fraction: Share = 0.5
    """Share of the updates in which forget images are still ascended on."""


def scrub(
    forget_divergence: BatchLoss,
    retain_loss: BatchLoss,
    optimizer: Optimizer,
    *,
    max_updates: float,
    min_steps: int = 1,
    teacher_passes: int = 1,
) -> Method:
    """One step up ``forget_divergence``, then ``min_steps`` down ``retain_loss``.

    After ``max_updates`` updates only the steps down go on; the cost is still counted
    as if all were taken. The optimizer and its state are shared, as published.

    Args:
      forget_divergence: KL(teacher ‖ student), maximised.
      retain_loss: γ CE + α KL(teacher ‖ student), minimised.
      teacher_passes: forward passes of the teacher per step, each a third of a
        gradient.
    """
    optimizer = optimizer_of("optimizer", optimizer)

    def init(params):
        return {"optimizer": optimizer.init(params), "count": jnp.zeros((), jnp.int32)}

    def step(loss, params, state, batch):
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    def update(params, state, batches):
        forget = minibatch(batches["forget"], 0)
        up = lambda p, b: -forget_divergence(p, b)
        # Not a `lax.cond`: XLA's convolutions are far slower within one on a CPU.
        *new, loss_f = step(up, params, state["optimizer"], forget)
        params, inner = optax.tree.where(
            state["count"] < max_updates, tuple(new), (params, state["optimizer"])
        )
        loss_r = jnp.zeros(())
        for index in range(min_steps):
            retain = minibatch(batches["retain"], index)
            params, inner, loss_r = step(retain_loss, params, inner, retain)
        count = optax.safe_increment(state["count"])
        metrics = {"forget_loss": loss_f, "retain_loss": loss_r}
        return params, {"optimizer": inner, "count": count}, metrics

    steps = 1 + min_steps
    return Method(
        init,
        update,
        batches_per_update=min_steps,
        gradient_evaluations=steps * (1 + teacher_passes / 3),
        parameter_updates=steps,
    )


def build(config: Scrub, setting: Setting) -> Plan:
    """SCRUB on the network as it was; forget images in a share of the updates."""
    plan = Plan(_scrub((config, 0.0), *setting.compiled), "paired")
    updates = round(config.max_fraction * plan.num_updates(setting.budget))
    numbers = config, float(updates)
    return plan._replace(method=with_numbers(_scrub, numbers, *setting.compiled))


def _scrub(numbers: Any, *compiled) -> Method:
    setting, (config, max_updates) = Compiled(*compiled), numbers
    optimizer = config.sgd()

    def on_parameters(context: Context) -> Method:
        logits = logits_fn(setting.config, context)
        teacher = lambda images: predict(setting.config, context.frozen, images)
        divergence = functools.partial(
            vision.distillation,
            logits,
            teacher_fn=teacher,
            temperature=config.temperature,
        )
        keep = lambda p, b: (
            config.gamma * vision.cross_entropy(logits, p, b)
            + config.alpha * divergence(p, b)
        )
        return scrub(
            divergence,
            keep,
            optimizer,
            max_updates=max_updates,
            min_steps=config.min_steps,
        )

    return vision_method(
        on_parameters, setting, "retain", averages="after", freeze=copy_params
    )


_SEARCH = {"learning_rate": Range(1e-4, 1e-1, log=True)}
SPEC = Spec("SCRUB", "2302.09880", Scrub(), build, _SEARCH)
