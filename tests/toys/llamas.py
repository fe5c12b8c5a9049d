"""A small Llama's parameters, made by one program: op by op they would be seventy."""

import jax

from ofmu_jax.models.llama import model

init_params = jax.jit(model.init_params, static_argnums=0)
