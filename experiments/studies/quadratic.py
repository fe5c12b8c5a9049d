"""Two problems for `experiments.convergence`: one solved on paper, and a small network.

The quadratic losses are L_f(θ) = −½ (θ−a)ᵀA(θ−a), with a maximum to ascend to, and
L_r(θ) = ½ (θ−b)ᵀB(θ−b). With β = 0, F has the Hessian H = B + 2ρA² and the minimum
θ* = H⁻¹(Bb + 2ρA²a). T inner steps of plain ascent multiply θ − a by M, the T-th power
of I − η_in A, so that an outer iteration is a linear map: (I − η_out H) M with base
"inner", I − η_out H M with base "outer". Its fixed point θ_∞ is θ* for T = 0 alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from ofmu_jax.choices import Base


class Problem(NamedTuple):
    """Losses of parameters θ of shape (D,), and where to start."""

    forget: Callable[[jax.Array], jax.Array]
    retain: Callable[[jax.Array], jax.Array]
    start: jax.Array


class Quadratic(NamedTuple):
    """−½ (θ−a)ᵀA(θ−a) and ½ (θ−b)ᵀB(θ−b): matrices (D, D), points (D,)."""

    a_matrix: np.ndarray
    a: np.ndarray
    b_matrix: np.ndarray
    b: np.ndarray

    def problem(self) -> Problem:
        form = lambda m, x: 0.5 * x @ jnp.asarray(m) @ x
        return Problem(
            lambda p: -form(self.a_matrix, p - self.a),
            lambda p: form(self.b_matrix, p - self.b),
            jnp.zeros(len(self.a)),
        )


def quadratic(size: int, seed: int) -> Quadratic:
    """A random problem whose matrices have eigenvalues from 0.2 to 1; D = ``size``."""
    rng = np.random.default_rng(seed)

    def matrix() -> np.ndarray:
        basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
        return basis @ np.diag(np.linspace(0.2, 1.0, size)) @ basis.T

    return Quadratic(matrix(), rng.normal(size=size), matrix(), rng.normal(size=size))


def network(seed: int) -> Problem:
    """Two layers of tanh that know eight pairs of numbers and are to know four others.

    The forget loss rises to 0 as the network fits random answers.
    """
    keys = jax.random.split(jax.random.key(seed), 4)
    inputs = jax.random.normal(keys[0], (12, 4))
    answers, others = jax.random.normal(keys[1], (2, 12))
    layers = [jnp.zeros((4, 8)), jnp.zeros(8)]
    flat, unravel = jax.flatten_util.ravel_pytree(layers)

    def fit(p, x, y):
        first, second = unravel(p)
        return jnp.mean((jnp.tanh(x @ first) @ second - y) ** 2)

    return Problem(
        lambda p: -fit(p, inputs[8:], others[8:]),
        lambda p: fit(p, inputs[:8], answers[:8]),
        0.5 * jax.random.normal(keys[2], flat.shape),
    )


def on_paper(
    q: Quadratic,
    inner_steps: int,
    base: Base,
    inner_rate: float,
    outer_rate: float,
    rho: float,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Rate of the linear map, its fixed point θ_∞, and the minimum θ* of F."""
    identity = np.eye(len(q.a))
    square = 2 * rho * q.a_matrix @ q.a_matrix
    hessian = q.b_matrix + square
    minimum = np.linalg.solve(hessian, q.b_matrix @ q.b + square @ q.a)
    ascent = identity - inner_rate * q.a_matrix
    shrink = np.linalg.matrix_power(ascent, inner_steps)
    descent = outer_rate * hessian
    # With x = θ − a: θ' − a = M x, and the outer step adds −η H (θ' − θ*).
    whole = shrink if base == "inner" else identity
    linear = whole - descent @ shrink
    fixed = np.linalg.solve(identity - linear, descent @ (minimum - q.a)) + q.a
    return float(np.abs(np.linalg.eigvals(linear)).max()), fixed, minimum
