"""Compression: what a change of the weights that hides nothing brings back.

A method that moves weights little is undone where they are rounded (arXiv 2410.16454);
on TOFU light pruning is the stronger attack. Changed is each kernel of a projection, a
matrix (in, out) a layer; embeddings, head and norms stay as they are.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax._trees import name_of
from ofmu_jax.attacks.base import (
    PROBABILITY,
    Attack,
    Attacked,
    Found,
    Params,
    Progress,
    Rows,
    probabilities,
    unaided,
)
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.models.llama import nf4

# bitsandbytes' FP4: sign, two bits of exponent and one of mantissa, over the largest.
_MAGNITUDES = np.array([0.0625, 2, 3, 4, 6, 8, 12], np.float32) / 12
FP4 = np.concatenate([-_MAGNITUDES[::-1], [0], _MAGNITUDES]).astype(np.float32)


@functools.partial(jax.jit, static_argnames="bits")
def rows_rounded(w: jax.Array, bits: int) -> jax.Array:
    """Integers of so many bits times a scale for each output, which is its largest |w|
    over 2^(bits − 1) − 1.

    Args:
      w: shape (…, in, out): the weights of an output are a row of PyTorch's (out, in).

    >>> print(rows_rounded(jnp.array([[7.0], [2.4], [-0.6]]), bits=4)[:, 0])
    [ 7.  2. -1.]
    """
    most, exact = 2 ** (bits - 1) - 1, w.astype(jnp.float32)
    scale = jnp.max(jnp.abs(exact), axis=-2, keepdims=True) / most
    return (jnp.round(exact / jnp.where(scale > 0, scale, 1)) * scale).astype(w.dtype)


def blocks_rounded(w: jax.Array, table: np.ndarray) -> jax.Array:
    """Each block's largest |w| times the nearest of 16 values, as bitsandbytes has it.

    A block is 64 neighbours in PyTorch's (out, in), row after row; the last one may be
    shorter.

    Args:
      w: shape (…, in, out).
      table: of `nf4.quantize`.
    """
    *stack, rows, columns = w.shape
    size = rows * columns
    flat = jnp.swapaxes(w, -1, -2).reshape(*stack, size)
    padded = jnp.pad(flat, [(0, 0)] * len(stack) + [(0, -size % nf4.BLOCK)])
    blocks = jnp.swapaxes(padded.reshape(*stack, -1, nf4.BLOCK), -1, -2)
    found = nf4.dequantize(nf4.quantize(blocks, table), w.dtype, table)
    flat = jnp.swapaxes(found, -1, -2).reshape(*stack, -1)[..., :size]
    return jnp.swapaxes(flat.reshape(*stack, columns, rows), -1, -2)


def pruned(w: jax.Array, share: float) -> jax.Array:
    """The matrix with its ``share`` of smallest weights set to zero.

    Args:
      w: shape (…, in, out); each matrix of a stack is pruned by itself.

    >>> print(pruned(jnp.array([[3.0, -1.0], [2.0, 4.0]]), share=0.5))
    [[3. 0.]
     [0. 4.]]
    """
    return _without_smallest(w, round(share * w.shape[-2] * w.shape[-1]))


@jax.jit  # of all shares: their number is an argument
def _without_smallest(w: jax.Array, count: jax.typing.ArrayLike) -> jax.Array:
    size = w.shape[-2] * w.shape[-1]

    def one(flat: jax.Array) -> jax.Array:
        order = jnp.argsort(jnp.abs(flat))
        return flat.at[order].set(jnp.where(jnp.arange(size) < count, 0, flat[order]))

    # One after the other: to sort takes several times the memory of what is sorted.
    return jax.lax.map(one, w.reshape(-1, size)).reshape(w.shape)


def kernels_changed(change: Callable[[jax.Array], jax.Array], params: Params) -> Params:
    """The parameters with every kernel of a projection changed."""

    def one(path: Any, w: jax.Array) -> jax.Array:
        return change(jnp.asarray(w)) if name_of(path).endswith("kernel") else w

    return jax.tree_util.tree_map_with_path(one, params)


def _scored(
    model: Attacked,
    rows: Rows,
    progress: Progress,
    at: tuple[float, ...],
    changes: list[Callable[[jax.Array], jax.Array]],
) -> Found:
    subject, examples = model.subject, model.subject.encode(rows.scored)
    before, scores = unaided(model, rows), []
    for number, change in enumerate(changes, 1):
        params = kernels_changed(change, model.params)
        scores.append(probabilities(subject, params, examples))
        progress(number / len(changes))
    return Found(at, np.stack(scores), before)


def rounding(change: Callable[[jax.Array], jax.Array]) -> Callable[..., Found]:
    """The attack that changes the kernels so and scores the answers."""

    def run(model: Attacked, rows: Rows, budget: Budget, progress: Progress) -> Found:
        return _scored(model, rows, progress, (0.0,), [change])

    return run


def pruning(model: Attacked, rows: Rows, budget: Budget, progress: Progress) -> Found:
    """Answers of the model pruned by each of the shares."""
    shares = budget.prune_shares
    changes = [functools.partial(pruned, share=share) for share in shares]
    return _scored(model, rows, progress, shares, list(changes))


INT8 = Attack(
    "8-bit integers",
    "2208.07339",
    PROBABILITY,
    "weights alone, a scale an output",
    rounding(functools.partial(rows_rounded, bits=8)),
)
INT4 = Attack(
    "4-bit integers",
    "2410.16454",
    PROBABILITY,
    "weights alone, a scale an output",
    rounding(functools.partial(rows_rounded, bits=4)),
)
NF4 = Attack(
    "NF4",
    "2305.14314",
    PROBABILITY,
    "4-bit NormalFloat of weights, blocks of 64",
    rounding(jax.jit(functools.partial(blocks_rounded, table=nf4.VALUES))),
)
FP4_ATTACK = Attack(
    "FP4",
    "2410.16454",
    PROBABILITY,
    "4-bit floats of weights, blocks of 64: bitsandbytes' default",
    rounding(jax.jit(functools.partial(blocks_rounded, table=FP4))),
)
PRUNING = Attack(
    "Pruning",
    "1506.02626",
    PROBABILITY,
    "smallest weights of each matrix set to zero, shares {prune_shares:g}",
    pruning,
    axis="share pruned",
)
