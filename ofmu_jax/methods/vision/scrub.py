"""SCRUB (Kurmanji et al. 2023, arXiv 2302.09880): away from the teacher on forget
images, towards it on retain images, by turns."""

import jax
import jax.numpy as jnp
import optax

from ofmu_jax.methods.base import BatchLoss, Method, minibatch


def scrub(
    forget_divergence: BatchLoss,
    retain_loss: BatchLoss,
    optimizer: optax.GradientTransformation,
    *,
    max_updates: int,
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
