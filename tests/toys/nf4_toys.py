"""A small Llama whose sizes blocks of NF4 divide."""

import functools

import jax
from llamas import init_params

from ofmu_jax.models.llama.model import LlamaConfig

CONFIG = LlamaConfig(8, 64, 64, 2, 2, 1, 32)


@functools.cache
def llama():
    """Its parameters, in float32."""
    return init_params(CONFIG, jax.random.key(0))
