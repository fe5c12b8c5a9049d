"""A run of a few hundred parameters: everything that a snapshot must hold is in it."""

import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ofmu_jax.data.language.batches import paired_batches
from ofmu_jax.data.streams import Mapped
from ofmu_jax.methods import Method
from ofmu_jax.training import loop

START = {
    "w": jnp.linspace(-1.0, 1.0, 8 * 24).reshape(8, 24),
    "b": jnp.zeros(24, jnp.bfloat16),
}
OPTIMIZER = optax.adamw(optax.exponential_decay(0.02, 10, 0.9))
RULE = loop.StoppingRule(forget_target=2.0, patience=4)


class State(NamedTuple):
    """What a method may carry: moments, a key, a number without a dtype of its own."""

    moments: Any
    key: jax.Array
    scale: jax.Array


def init(params: Any) -> State:
    return State(OPTIMIZER.init(params), jax.random.key(7), jnp.asarray(1.0))


def update(params: Any, state: State, batches: Any):
    """A noisy descent; its losses depend on batches, moments, key and scale."""
    x = jax.nn.one_hot(batches["forget"]["input_ids"][0], 8)
    y = batches["retain"]["input_ids"][0]
    key, noise = jax.random.split(state.key)

    def loss(p):
        out = jnp.tanh(x @ p["w"] + p["b"].astype(jnp.float32))
        return jnp.mean((out.sum(-1) - y) ** 2)

    value, grads = jax.value_and_grad(loss)(params)
    drawn = jax.random.normal(noise, params["w"].shape)
    grads["w"] = grads["w"] + state.scale * 0.1 * drawn
    updates, moments = OPTIMIZER.update(grads, state.moments, params)
    params = optax.apply_updates(params, updates)
    return params, State(moments, key, state.scale * 0.99), {"retain_loss": value}


METHOD = Method(init, update, batches_per_update=1, gradient_evaluations=1)


def stream(seed: int = 0, draws: list | None = None):
    """Batches that differ; ``draws`` gets an entry for each that was drawn."""
    rows = np.arange(40, dtype=np.int32).reshape(10, 4)
    batch = {
        "input_ids": rows % 8,
        "labels": rows,
        "attention_mask": np.ones_like(rows),
    }

    def noted(drawn):
        if draws is not None:
            draws.append(drawn["forget"]["input_ids"])
        return drawn

    return Mapped(paired_batches(batch, batch, 3, seed, num_stack=1), noted)


@jax.jit
def _distance(params):
    return jnp.abs(params["w"] - START["w"]).mean() * 40


def check(params) -> dict[str, float]:
    """The forget NLL is how far the parameters went; the retain NLL wiggles."""
    far = float(_distance(params))
    return {"forget_nll": far, "retain_nll": float(abs(np.sin(7 * far)) + far / 10)}


def fit(saver=None, *, num_updates=24, check_every=3, **options) -> loop.Run:
    """The run; ``options`` are of `training.run`."""
    options = {"check": check, "stopping": RULE, "batches": stream()} | options
    batches = options.pop("batches")
    return loop.run(
        METHOD,
        START,
        batches,
        num_updates=num_updates,
        check_every=check_every,
        saver=saver,
        **options,
    )


def main(folder: str, num_updates: str, pause: str) -> None:
    """A program to kill: writes metrics and snapshots, then its result.

    ``result.npz`` has the parameters, ``record.json`` metrics and checks.
    """
    import json
    import pathlib

    from experiments.stages import stage as stages
    from experiments.stages.metrics_log import MetricsLog
    from experiments.stages.saver import resumable

    stage = stages.Stage(pathlib.Path(folder), "toy")
    with resumable(stage, 20) as saver:
        log = MetricsLog(stage.folder)

        def on_update(done, metrics):
            log.write(done, metrics)
            time.sleep(float(pause))
            print(done, flush=True)

        options = {"num_updates": int(num_updates), "on_update": on_update}
        result = fit(saver, check_every=50, stopping=None, **options)
        log.close()
        arrays = {k: np.asarray(x).view(np.uint8) for k, x in result.params.items()}
        np.savez(stage.folder / "result.npz", **arrays)
        record = {"metrics": result.metrics, "checks": result.checks}
        (stage.folder / "record.json").write_text(json.dumps(record))
        stage.finish({"update": result.update, "stopped": result.stopped})


if __name__ == "__main__":
    main(*sys.argv[1:])
