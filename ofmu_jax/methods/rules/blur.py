"""BLUR: retain only along directions that the forget loss does not feel.

The nearest bi-level method (arXiv 2506.08164): the forget loss comes first, and the
retain loss chooses among its minimisers.
"""

import jax
import jax.numpy as jnp
import optax

from ofmu_jax import bilevel
from ofmu_jax.methods.base import BatchLoss, Method, Params, minibatch
from ofmu_jax.methods.rules.weighted import gradient_ascent


def blur_direction(
    g_f: Params,
    g_r: Params,
    *,
    forget_weight: float | jax.Array = 1.0,
    retain_weight: float | jax.Array = 1.0,
) -> Params:
    """γ g_f + α (g_r − g_f ⟨g_f, g_r⟩ / ‖g_f‖²), g_f of the *minimised* forget loss.

    γ is ``forget_weight``, α ``retain_weight``. The published code for MUSE has
    γ = 1 and α = 1, that for WMDP γ = 1 and α = 800. To first order a step of size η
    lowers the forget loss by η γ ‖g_f‖², whatever the retain gradient is. Where
    g_f = 0 nothing is projected out. Inner products are taken in float32.
    """
    wide_f, wide_r = bilevel.widen(g_f), bilevel.widen(g_r)
    sq = optax.tree.norm(wide_f, squared=True)
    share = bilevel.inner_product(wide_f, wide_r) / jnp.where(sq > 0, sq, 1)
    direction = optax.tree.add(
        optax.tree.scale(forget_weight - retain_weight * share, wide_f),
        optax.tree.scale(retain_weight, wide_r),
    )
    return optax.tree.cast_like(direction, g_f)


def blur(
    forget_loss: BatchLoss,
    retain_loss: BatchLoss,
    optimizer: optax.GradientTransformation,
    *,
    forget_weight: float = 1.0,
    retain_weight: float = 1.0,
    forget_cost: float = 1,
) -> Method:
    """Steps along `blur_direction`; ``forget_loss`` is to be minimised.

    Published with NPO and the retain cross-entropy (MUSE) and with RMU's two losses
    (WMDP). The optimizer gets the combined direction, so that clipping acts on it.
    """
    if bilevel.is_static_zero(retain_weight):
        return gradient_ascent(
            forget_loss,
            optimizer,
            forget_weight=forget_weight,
            forget_cost=forget_cost,
        )

    def update(params, state, batches):
        batch = minibatch(batches, 0)
        l_f, g_f = jax.value_and_grad(forget_loss)(params, batch["forget"])
        l_r, g_r = jax.value_and_grad(retain_loss)(params, batch["retain"])
        direction = blur_direction(
            g_f, g_r, forget_weight=forget_weight, retain_weight=retain_weight
        )
        updates, state = optimizer.update(direction, state, params)
        metrics = {
            "forget_loss": l_f,
            "retain_loss": l_r,
            "cosine": -bilevel.cosine(g_f, g_r),
        }
        return optax.apply_updates(params, updates), state, metrics

    return Method(
        optimizer.init,
        update,
        batches_per_update=1,
        gradient_evaluations=forget_cost + 1,
    )
