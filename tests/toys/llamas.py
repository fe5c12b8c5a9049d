"""A small Llama in whole programs: op by op its parameters alone would be seventy."""

import jax

from ofmu_jax.models.llama import model

init_params = jax.jit(model.init_params, static_argnums=0)
hidden_states = jax.jit(model.hidden_states, static_argnums=(0, 1))
