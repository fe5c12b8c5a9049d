"""Losses on the hidden states of one layer (RMU, arXiv 2403.03218).

``hidden_fn(params, input_ids, attention_mask)`` gives the output of a decoder layer
(the residual stream after it), shape (B, L, D). Its position t belongs to token t
itself, so the masks here are not shifted: ``positions="answer"`` are the tokens that
have a label, ``"all"`` every position, as in the code for plain text.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ofmu_jax.losses.tokens import (
    IGNORED,
    Batch,
    Params,
    Positions,
    check_positions,
    widen,
)

HiddenFn = Callable[[Params, jax.Array, jax.Array], jax.Array]


def control_vector(
    key: jax.Array, size: int, coefficient: float | jax.Array
) -> jax.Array:
    """c u/‖u‖ with u uniform on [0, 1)^D, drawn once for a run; shape (D,).

    All its entries are positive, as in the published code.
    """
    u = jax.random.uniform(key, (size,))
    return coefficient * u / jnp.linalg.norm(u)


def rmu_forget(
    hidden_fn: HiddenFn,
    params: Params,
    batch: Batch,
    control_D: jax.Array,
    *,
    positions: Positions = "answer",
    compat: bool = False,
) -> jax.Array:
    """MSE between the hidden states of forget rows and the control vector."""
    hidden = _hidden(hidden_fn, params, batch)
    return hidden_mse(hidden, control_D, _mask(batch, positions), compat=compat)


def rmu_retain(
    hidden_fn: HiddenFn,
    params: Params,
    batch: Batch,
    reference_params: Params,
    *,
    positions: Positions = "answer",
    compat: bool = False,
) -> jax.Array:
    """MSE between the hidden states of retain rows now and before unlearning."""
    hidden = _hidden(hidden_fn, params, batch)
    reference = jax.lax.stop_gradient(_hidden(hidden_fn, reference_params, batch))
    return hidden_mse(hidden, reference, _mask(batch, positions), compat=compat)


def hidden_mse(
    hidden_BxLxD: jax.Array,
    target: jax.Array,
    mask_BxL: jax.Array,
    *,
    compat: bool = False,
) -> jax.Array:
    """Mean over sequences of e_b / n_b: errors of a row over its number of tokens.

    e_b sums, over the row's tokens in the mask, the squared error averaged over D;
    ``target`` broadcasts against (B, L, D).

    ``compat=True`` is mean(e) · mean(1/n) instead: the published code divides shapes
    (B,) by (B, 1), which broadcasts to all pairs of rows. Rows of equal length, and
    batches of one, do not show the difference.
    """
    error_B = jnp.sum(jnp.mean((hidden_BxLxD - target) ** 2, -1) * mask_BxL, -1)
    inverse_B = 1 / jnp.maximum(jnp.sum(mask_BxL, -1), 1)
    if compat:
        return jnp.mean(error_B) * jnp.mean(inverse_B)
    return jnp.mean(error_B * inverse_B)


def _hidden(hidden_fn: HiddenFn, params: Params, batch: Batch) -> jax.Array:
    return widen(hidden_fn(params, batch["input_ids"], batch["attention_mask"]))


def _mask(batch: Batch, positions: Positions) -> jax.Array:
    check_positions(positions)
    labels = jnp.asarray(batch["labels"])
    return jnp.ones_like(labels, bool) if positions == "all" else labels != IGNORED
