"""Matrices in NF4, the 4-bit NormalFloat of QLoRA (Dettmers et al. 2023, 2305.14314).

A block is `BLOCK` entries of a column that follow each other along the input axis, as
bitsandbytes has them in a PyTorch weight (out, in). It is stored as its largest
absolute value, in float32, and for each entry the nearest of 16 multiples of that: 4.5
bits an entry in all. (The scales themselves are not quantised again.)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 64  # entries that share a scale

# Quantiles of a normal distribution, scaled to [−1, 1]; appendix E of the paper.
VALUES = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634),
        *(0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
        *(0.7229568362236023, 1.0),
    ],
    np.float32,
)


class Nf4(NamedTuple):
    """A matrix (…, in, out) in NF4; ``…`` are axes before it, such as layers."""

    codes: jax.Array  # shape=(…, in / 2, out), uint8: the even row's code times 16
    scales: jax.Array  # shape=(…, in / BLOCK, out), float32: largest |w| of a block

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix."""
        *stack, half, columns = self.codes.shape
        return (*stack, 2 * half, columns)

    @property
    def dtype(self) -> Any:
        """Of the matrix that it stands for."""
        return self.scales.dtype


def is_nf4(x: Any) -> bool:
    """``is_leaf`` of trees in which one is a leaf."""
    return isinstance(x, Nf4)


def quantize(w: jax.Array, table: np.ndarray = VALUES) -> Nf4:
    """The nearest value of each entry; a tie goes down, as in bitsandbytes.

    >>> w = jnp.tile(jnp.array([[0.5], [-0.4]]), (BLOCK // 2, 1))
    >>> q = quantize(w)
    >>> print(q.codes[0], q.scales)  # 0.5 is 1 × 0.5, −0.4 nearest to −0.696 × 0.5
    [241] [[0.5]]

    Args:
      w: shape=(…, in, out).
      table: at most 16 values in [−1, 1] in their order; of another data type than NF4.

    Raises:
      ValueError: if the blocks do not divide the input axis.
    """
    *stack, rows, columns = w.shape
    check_rows(rows)
    blocks = w.astype(jnp.float32).reshape(*stack, rows // BLOCK, BLOCK, columns)
    scales = jnp.max(jnp.abs(blocks), axis=-2)
    unit = jnp.where(scales > 0, scales, 1)[..., None, :]
    between = (table[1:] + table[:-1]) / 2
    codes = sum((blocks / unit > x).astype(jnp.uint8) for x in between)
    codes = jnp.asarray(codes).reshape(*stack, rows // 2, 2, columns)
    return Nf4(16 * codes[..., 0, :] + codes[..., 1, :], scales)


def dequantize(
    q: Nf4, dtype: Any = jnp.float32, table: np.ndarray = VALUES
) -> jax.Array:
    """The matrix (…, in, out) that the codes stand for, rounded to ``dtype``."""
    *stack, rows, columns = q.shape
    halves = jnp.array([[4], [0]], jnp.uint8)
    codes = (q.codes[..., None, :] >> halves) & 15
    values = jnp.asarray(table)[codes.reshape(*stack, rows // BLOCK, BLOCK, columns)]
    return (values * q.scales[..., None, :]).astype(dtype).reshape(q.shape)


def _product(x: jax.Array, q: Nf4) -> jax.Array:
    return jnp.matmul(x, dequantize(jax.lax.stop_gradient(q), x.dtype))


def product(x: jax.Array, q: Nf4) -> jax.Array:
    """x W in the dtype of x, which has the shape (…, in).

    A backward pass makes W anew: kept for it, all layers would be dense at once. It is
    differentiable in x, and constant in the codes.
    """
    # What one checkpoint knows beforehand is computed without it, and with it the next
    # derivative would be on its own: one for each of the three that OFMU may take.
    return jax.checkpoint(jax.checkpoint(jax.checkpoint(_product)))(x, q)


# --- of a whole model ---------------------------------------------------------------


def quantized(params: Any) -> Any:
    """Parameters with each kernel, a matrix a layer, in NF4; the rest as it is.

    A stack is quantised one layer at a time, so that little else is in memory.

    Raises:
      ValueError: naming the kernel that blocks do not divide.
    """
    one = jax.jit(quantize)

    def stack(w: Any) -> Nf4:
        layers = [jax.device_get(one(jnp.asarray(layer))) for layer in w]
        return Nf4(*(jnp.asarray(np.stack(part)) for part in zip(*layers, strict=True)))

    return _kernels(params, stack)


def outline(shapes: Any, dtype: Any) -> Any:
    """`quantized` for shapes alone; what stays as it is has ``dtype``."""
    rest = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
    return _kernels(rest, lambda w: jax.eval_shape(quantize, w))


def check_rows(rows: int) -> None:
    """Raises ValueError if blocks do not divide the input axis."""
    if rows % BLOCK:
        raise ValueError(
            f"{rows} inputs are no multiple of {BLOCK}, the entries of a block of NF4"
        )


def _kernels(params: Any, change: Any, path: tuple[str, ...] = ()) -> Any:
    """Nested mappings with every ``kernel`` changed."""
    found = {}
    for name, value in params.items():
        here = (*path, name)
        if isinstance(value, Mapping):
            found[name] = _kernels(value, change, here)
        elif name == "kernel":
            try:
                found[name] = change(value)
            except ValueError as error:
                raise ValueError(f"{'/'.join(here)}: {error}.") from None
        else:
            found[name] = value
    return found
