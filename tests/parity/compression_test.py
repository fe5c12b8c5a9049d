"""Weights rounded by attacks against what bitsandbytes makes of them."""

import bitsandbytes.functional
import jax
import numpy as np
import pytest
import torch

from ofmu_jax.attacks import compression
from ofmu_jax.models.llama import nf4


@pytest.mark.parametrize("shape", [(128, 192), (96, 80), (10, 7)])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_blocks_are_those_of_bitsandbytes(kind, shape):
    """Sizes that blocks of 64 divide, and that they do not.

    Read back from its codes and scales by hand: the CPU kernel that does it in
    bitsandbytes 0.50 is off where a block goes on in the next row.
    """
    w = 0.03 * jax.random.normal(jax.random.key(0), shape)
    codes, state = bitsandbytes.functional.quantize_4bit(
        torch.tensor(np.array(w.T)), blocksize=64, quant_type=kind
    )
    both = np.stack([codes.numpy() >> 4, codes.numpy() & 15], -1).ravel()[: w.size]
    scales = np.repeat(state.absmax.numpy(), 64)[: w.size]
    theirs = (state.code.numpy()[both] * scales).reshape(shape[::-1]).T
    table = {"nf4": nf4.VALUES, "fp4": compression.FP4}[kind]
    np.testing.assert_array_equal(compression.blocks_rounded(w, table), theirs)
