"""Compression of weights against answers on paper and published codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attack_toys import ROWS, model
from compilations import counted

from ofmu_jax.attacks import compression
from ofmu_jax.attacks.base import Attacked, probabilities
from ofmu_jax.attacks.budget import Budget
from ofmu_jax.models.llama import nf4


@pytest.mark.parametrize("bits", [4, 8])
def test_integers_have_a_scale_an_output(bits):
    """The largest |w| of each output is kept; what lies between moves to the grid."""
    most = 2 ** (bits - 1) - 1
    w = jnp.array([[most, -2.0 * most], [1.4, 2.8], [-0.6, 5.2]])
    expected = [[most, -2.0 * most], [1.0, 2.0], [-1.0, 6.0]]
    found = compression.rows_rounded(w, bits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    stacked = compression.rows_rounded(jnp.stack([w, 3 * w]), bits)
    np.testing.assert_allclose(stacked[1], 3 * np.array(expected), rtol=1e-6)


def test_rounding_is_exact_whatever_the_weights_are_kept_in():
    """In bfloat16 itself 1/127 has three digits, and levels move."""
    w = jax.random.normal(jax.random.key(3), (64, 16)).astype(jnp.bfloat16)
    found = compression.rows_rounded(w, 8)
    exact = compression.rows_rounded(w.astype(jnp.float32), 8)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


def test_a_row_of_zeros_stays():
    np.testing.assert_array_equal(compression.rows_rounded(jnp.zeros((4, 2)), 4), 0)


def test_fp4_has_the_values_of_bitsandbytes():
    """Sign, exponent, mantissa: 0, 1/16, 2, 3, 4, 6, 8, 12 over 12, and their minus."""
    of_12 = [0.0625, 2, 3, 4, 6, 8, 12]
    expected = [*(-x for x in reversed(of_12)), 0, *of_12]
    np.testing.assert_allclose(12 * compression.FP4, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 96, 80), (64, 3), (10, 7)])
def test_blocks_follow_pytorchs_rows(shape):
    """Against numpy: blocks of 64 of (out, in), the last one shorter."""
    w = np.asarray(jax.random.normal(jax.random.key(0), shape))
    found = compression.blocks_rounded(jnp.asarray(w), nf4.VALUES)
    for ours, matrix in zip(
        found.reshape(-1, *shape[-2:]), w.reshape(-1, *shape[-2:]), strict=True
    ):
        flat = matrix.T.ravel()
        blocks = [flat[i : i + 64] for i in range(0, len(flat), 64)]
        rounded = [
            np.abs(b).max()
            * nf4.VALUES[
                np.abs(b[:, None] / np.abs(b).max() - nf4.VALUES[None]).argmin(1)
            ]
            for b in blocks
        ]
        expected = np.concatenate(rounded).reshape(matrix.T.shape).T
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_pruning_takes_the_smallest_of_each_matrix():
    w = jnp.arange(1.0, 11.0).reshape(5, 2) * jnp.array([1.0, -1.0])
    found = compression.pruned(jnp.stack([w, w[::-1]]), 0.3)
    assert np.sum(np.asarray(found) == 0, axis=(1, 2)).tolist() == [3, 3]
    np.testing.assert_array_equal(found[0], np.where(np.abs(w) > 3, w, 0))


def test_only_kernels_change():
    params = {"a": {"kernel": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}}
    found = compression.kernels_changed(lambda w: 0 * w, params)
    assert (found["a"]["kernel"] == 0).all() and (found["norm"]["scale"] == 1).all()


def test_what_rounding_undoes_is_found():
    """Kernels on a grid of 4 bits, hidden by less than half of its step: rounding gives
    the very model back, and the attack its very scores."""
    subject, params = model()[:2]
    on_grid = lambda w: compression.rows_rounded(w, 4)
    large = jax.tree.map(lambda x: 20 * x, params)  # whose answers differ
    target = compression.kernels_changed(on_grid, large)

    def moved(w):
        top = jnp.max(jnp.abs(w), axis=-2, keepdims=True)
        noise = jax.random.uniform(jax.random.key(1), w.shape, minval=-1, maxval=1)
        return jnp.where(jnp.abs(w) < top, w + 0.45 * top / 7 * noise, w)

    hidden = Attacked(subject, compression.kernels_changed(moved, target))
    found = compression.INT4.run(hidden, ROWS, Budget(), lambda share: None)
    told = probabilities(subject, target, subject.encode(ROWS.scored))
    assert found.before is not None and np.abs(found.before / told - 1).max() > 0.05
    np.testing.assert_allclose(found.scores[0], told, rtol=1e-4)


def test_a_curve_over_the_shares():
    found = compression.PRUNING.run(model(), ROWS, Budget(), lambda share: None)
    assert found.at == (0.1, 0.2, 0.3) and found.scores.shape == (3, 6)


def test_every_share_is_the_same_program():
    w = jax.random.normal(jax.random.key(7), (3, 5, 2))
    with counted() as compiled:
        found = [compression.pruned(w, share) for share in (0.1, 0.2, 0.3)]
    assert len(compiled) == 1
    assert [int(np.sum(np.asarray(x) == 0)) for x in found] == [3, 6, 9]
