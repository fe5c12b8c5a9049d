"""What a run is spread over: its mesh, its processes, its micro-batches."""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from experiments.config.language import LanguageRun
from experiments.shell import signals
from ofmu_jax.models.llama.model import LlamaConfig, init_params
from ofmu_jax.parallel import distributed, failure, sharding
from ofmu_jax.training import placement


def join(run: LanguageRun) -> None:
    """Joins the job that the run is part of, if it has several processes.

    Only process 0 prints from then on; signals stop all processes or none, and what
    one of them fails at ends all.

    Raises:
      ValueError: if the flags do not say which process this is, or there is no mesh.
    """
    if run.lora.base != "full":
        # JAX has no host to load to where JAX_PLATFORMS names the accelerator alone.
        platforms = jax.config.values["jax_platforms"]
        jax.config.update("jax_platforms", with_host(platforms))
    if not distributed.initialize(run.coordinator, run.num_processes, run.process_id):
        return
    if run.mesh is None:
        raise ValueError("a job of several processes needs --mesh, such as fsdp=-1.")
    from experiments.shell import console

    if not distributed.is_main():
        console.quiet()
    signals.in_job(distributed.largest, distributed.is_main(), failure.tell)
    failure.watch(signals.falls, end=lambda: os._exit(2))


def with_host(platforms: str | None) -> str | None:
    """``JAX_PLATFORMS`` and, in the last place, the host; None or "": left to JAX.

    >>> with_host("cuda"), with_host("cpu"), with_host(None)
    ('cuda,cpu', 'cpu', None)
    """
    if not platforms or "cpu" in platforms.split(","):
        return platforms
    return f"{platforms},cpu"


def on_host() -> contextlib.AbstractContextManager:
    """Where whole models are read to before they are quantised: the host's memory.

    Raises:
      ValueError: if JAX was started without the host as a platform.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ValueError(
            "--lora.base needs the host's memory to load models to, and JAX_PLATFORMS="
            f"{jax.config.values['jax_platforms']} leaves it out; append ,cpu to it."
        ) from error
    return jax.default_device(host)


def mesh_of(run: LanguageRun) -> Mesh | None:
    """The mesh of a run; None: one device, and nothing is placed.

    Raises:
      ValueError: if mesh or micro-batches do not divide a batch.
    """
    sizes = {
        "--train.batch-size": run.train.batch_size,
        "--budget.batch-size": run.budget.batch_size,
    }
    parts = {
        name: micro_batch(name, size, run.grad_accum) for name, size in sizes.items()
    }
    if run.mesh is None:
        return None
    mesh = sharding.make_mesh(run.mesh)
    for name, rows in parts.items():
        placement.check_rows(rows, mesh, f"{name} / --grad-accum")
    placement.check_rows(run.evaluation.batch_size, mesh, "--evaluation.batch-size")
    return mesh


def micro_batch(option: str, size: int, grad_accum: int) -> int:
    """Rows of a micro-batch; ``option`` names the batch size that is divided.

    Raises:
      ValueError: if ``grad_accum`` does not divide ``size``.
    """
    if grad_accum < 1:
        raise ValueError(f"--grad-accum {grad_accum} must be at least 1.")
    if size % grad_accum:
        raise ValueError(
            f"--grad-accum {grad_accum} does not divide {option} {size}; choose a "
            "number that divides it."
        )
    return size // grad_accum


@functools.lru_cache(maxsize=8)
def fresh_params(config: LlamaConfig, mesh: Mesh | None) -> Callable[..., Any]:
    """From a key to parameters where they lie; one program for all seeds."""
    init = functools.partial(init_params, config)
    if mesh is None:
        return jax.jit(init)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.jit(init, out_shardings=sharding.shardings(shapes, mesh))
