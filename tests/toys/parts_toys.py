"""A small Llama's configuration, two parts of it, and batches for every method."""

import jax
import jax.numpy as jnp
import numpy as np
from losses_toys import FORGET, REFUSAL, RETAIN

from ofmu_jax import methods
from ofmu_jax.methods import Lora, Subset
from ofmu_jax.models.llama.model import LlamaConfig

EXTRA = {
    "reference_nll": np.array([3.0, 2.0], np.float32),
    "alternative": REFUSAL,
    "alternative_reference_nll": np.array([1.0, 4.0], np.float32),
    "target_nll": np.array([9.0, 9.0], np.float32),
}
NAMES = tuple(methods.METHODS)
CONFIG = LlamaConfig(8, 8, 16, 2, 2, 1, 4)
DOWN = Subset("down_proj")
LORA = Lora(rank=2, alpha=4.0)


def batches(count):
    one = {"forget": FORGET | EXTRA, "retain": RETAIN}
    return jax.tree.map(lambda x: jnp.asarray(np.stack([x] * count)), one)
