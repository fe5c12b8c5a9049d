"""Batches of one number, and checks that read prepared values."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax

from ofmu_jax import methods


def stream(size, value=0.0):
    batch = {"x": np.full((size, 2), value, np.float32)}
    return itertools.repeat({"forget": batch, "retain": batch})


def values_of(path):
    """A check that reads prepared values instead of a model."""
    path = iter(path)

    def check(params):
        forget, retain = next(path)
        return {"forget_nll": forget, "retain_nll": retain, "theta": float(params)}

    return check


def descend(rate=1.0):
    """θ falls by `rate` an update, so parameters tell which update they are of."""
    return methods.fine_tune(lambda p, b: jnp.sum(p), optax.sgd(rate))
