"""A user's program, for mypy and pyright to read (`make types`); it can be run too.

`assert_type` fails where a checker sees another type, or none; a comment that ignores
an error fails where there is none.
"""

from collections.abc import Callable
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import optax

import ofmu_jax
from ofmu_jax import training
from ofmu_jax.models.llama.config import LlamaConfig


def transform() -> Any:
    """Rates, schedules and optimizers; choices by their names."""
    rising: optax.Schedule = optax.exponential_decay(1e-3, 1, 1.1)
    tx = ofmu_jax.ofmu(optax.adam(1e-3), 1e-2, rho=rising, similarity="squared_cosine")
    ofmu_jax.ofmu(rising, optax.sgd(rising), rho="adaptive", maximum=0.0)
    return ofmu_jax.with_losses(optax.MultiSteps(tx, 2), loss_of, loss_of)


def misspelled() -> None:
    """What a checker refuses before it is run."""
    ofmu_jax.ofmu(0.1, 0.1, similarity="euclidean")  # type: ignore[arg-type]
    ofmu_jax.ofmu(0.1, 0.1, curvature="hessian")  # type: ignore[arg-type]
    ofmu_jax.losses.bounded.ascended_loss("npi", print)  # type: ignore[arg-type]
    ofmu_jax.unlearn("m", [], [], forget_target="chnce")  # type: ignore[arg-type]
    LlamaConfig(400, dtype="float16")  # type: ignore
    print(ofmu_jax.methods.nothing)  # type: ignore[attr-defined]


def loss_of(params: Any, step: jax.Array) -> jax.Array:
    """Of one minibatch."""
    return jnp.sum(params**2)


def method() -> training.Run:
    """Parts of the package that are imported when they are first used."""
    npo = ofmu_jax.methods.METHODS["npo"]
    assert_type(npo, ofmu_jax.methods.Spec)
    assert_type(npo.title, str)
    target: Callable[..., jax.Array] = ofmu_jax.losses.preference.npo
    assert target.__name__ == "npo"
    made = ofmu_jax.methods.fine_tune(lambda p, x: jnp.sum((p - x) ** 2), 0.1)
    assert_type(made, ofmu_jax.methods.Method)
    batches = [{"retain": jnp.ones((1, 2))}]
    run = training.run(made, jnp.zeros(2), batches, num_updates=1)
    assert_type(run.updates, int)
    return run


if __name__ == "__main__":
    transform()
    method()
