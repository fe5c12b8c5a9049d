"""The compiled step: its memory, one compilation, and what it donates."""

import functools
import itertools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import counted
from loop_toys import stream

from ofmu_jax import methods
from ofmu_jax.training import loop


def test_the_callers_parameters_survive_donation():
    params = {"w": jnp.ones(3)}
    method = methods.fine_tune(lambda p, b: jnp.sum(p["w"] ** 2), optax.sgd(0.1))
    loop.run(method, params, stream(1), num_updates=2)
    np.testing.assert_array_equal(params["w"], 1)


def test_a_state_that_holds_the_parameters_is_donated_once():
    # The distance to the start: d(θ − θ₀)²/dθ, with θ₀ the very arrays of θ.
    def update(params, start, batches):
        moved = jax.tree.map(lambda p, s: p + 1 + 0 * s, params, start)
        distance = moved["w"][0] - start["w"][0]
        return moved, start, {"distance_loss": distance}

    method = methods.Method(
        lambda p: p, update, batches_per_update=1, gradient_evaluations=1
    )
    result = loop.run(method, {"w": jnp.zeros(3)}, stream(1), num_updates=3)
    assert [row["distance_loss"] for row in result.metrics] == [1, 2, 3]


@pytest.fixture
def compilations():
    with counted() as found:
        yield found


def test_memory_of_a_step_and_no_second_compilation(compilations):
    traced = []

    def make():
        def update(params, state, batches):
            traced.append(1)
            return params + batches["x"].mean(), state + 1, {"a_loss": state}

        init = lambda p: jnp.zeros(())
        return methods.Method(init, update, 1, gradient_evaluations=1)

    rows = [{"x": np.ones(2, np.float32)} for _ in range(3)]
    start = {"params": jnp.zeros(1000), "num_updates": 3}
    loop.run(make(), batches=rows, **start)  # compiles the loop's own helpers
    del traced[:], compilations[:]
    run = functools.partial(loop.run, make(), **start)
    first = run(batches=rows)
    assert (len(traced), len(compilations)) == (1, 1)
    # 4000 bytes of parameters are donated: in and out are the same memory. A result
    # that is computed before it is written may need them once more.
    assert 4000 <= first.peak_bytes < 3 * 4000
    del compilations[:]
    again = run(batches=rows)
    assert (len(traced), compilations) == (1, [])
    assert again.peak_bytes == first.peak_bytes
    # Another shape in the midst of a run: compiled once more, for that shape.
    rows[1] = {"x": np.full((5, 2), 3.0, np.float32)}
    other = run(batches=rows)
    assert (len(traced), len(compilations)) == (2, 1)
    assert float(other.params[0]) == 1 + 3 + 1
    assert run(batches=[], num_updates=0).peak_bytes is None


def test_memory_where_the_backend_gives_no_analysis():
    class Compiled:
        def memory_analysis(self):
            if isinstance(self.found, Exception):
                raise self.found
            return self.found

    class Sizes:
        argument_size_in_bytes, output_size_in_bytes = 100, 70
        temp_size_in_bytes, alias_size_in_bytes = 8, 64

    compiled = Compiled()
    for found, expected in (
        (Sizes, 100 + 70 + 8 - 64),
        (None, None),
        (NotImplementedError(), None),
    ):
        compiled.found = found
        assert loop.step_bytes(typing.cast(typing.Any, compiled)) == expected


@pytest.mark.parametrize("placed", [False, True])
def test_a_run_compiles_its_step_once(placed, caplog):
    params = {"w": jnp.ones(3)}
    if placed:  # as restored from a checkpoint; the fresh optimizer state is not
        params = jax.device_put(params, jax.devices()[0])
    tx = optax.adam(0.1)

    def update(params, state, batch):
        grads = jax.tree.map(lambda w: w * batch["x"], params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, {"a_loss": batch["x"]}

    method = methods.Method(tx.init, update, 1, 1.0)
    batches = itertools.repeat({"x": np.ones(())})
    with jax.log_compiles(), caplog.at_level("WARNING"):
        loop.run(method, params, batches, num_updates=4)
    compiled = "Finished XLA compilation of jit(update)"
    assert sum(compiled in record.getMessage() for record in caplog.records) == 1
