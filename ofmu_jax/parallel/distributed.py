"""A job of several processes, one a host, that all run the same program.

Arrays are global, every process computes its part of every step, and what is found is
known to all. Process 0 alone writes files and prints, by `on_main`.
"""

import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")
AUTO = "auto"  # leave it to JAX, which knows TPU pods, Slurm, Open MPI and Kubernetes


class OtherProcessError(RuntimeError):
    """Process 0 failed at something that it does for all; its message is repeated."""


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> bool:
    """Joins the job, before anything has touched a device; True if there is one.

    What is not given is read from ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES``
    and ``JAX_PROCESS_ID``, and then found out by JAX where it can. Without a
    coordinator nothing happens: the program runs alone.

    Args:
      coordinator: ``host:port`` of process 0, or ``"auto"``.
      num_processes: in the whole job.
      process_id: of this one, from 0.

    Raises:
      ValueError: if the processes are counted but there is no coordinator.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    num_processes = _number(num_processes, "JAX_NUM_PROCESSES")
    process_id = _number(process_id, "JAX_PROCESS_ID")
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise ValueError(
                "the processes are counted but nobody coordinates them: give "
                "--coordinator HOST:PORT (of process 0), or --coordinator auto."
            )
        return False
    # Processes on CPUs talk through gloo; elsewhere this has no effect.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM away from Python, and nobody would hear of the signal.
    jax.config.update("jax_enable_preemption_service", False)
    address = None if coordinator == AUTO else coordinator
    jax.distributed.initialize(address, num_processes, process_id)
    return True


def _number(given: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    return int(text) if given is None and text else given


def is_main() -> bool:
    """True in process 0, which writes and prints."""
    return jax.process_index() == 0


def on_main(function: Callable[[], T]) -> T:
    """``function()``, run by process 0 alone; every process gets its result.

    No process goes on before it is done. With several processes the result has to be
    a JSON value.

    Raises:
      OtherProcessError: in the other processes, where it raised in process 0, or its
        result is no JSON value.
    """
    if jax.process_count() == 1:
        return function()
    text = ""
    raised: BaseException | None = None
    if is_main():
        try:
            text = json.dumps({"result": function()})
        except BaseException as error:  # the others must hear of it: also of Ctrl-C
            raised = error
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
    found = json.loads(_broadcast(text.encode()))
    if raised is not None:
        raise raised
    if "error" in found:
        raise OtherProcessError(found["error"])
    return found["result"]


def largest(value: int) -> int:
    """The largest of what the processes give, known to all; all have to ask."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def _broadcast(data: bytes) -> bytes:
    """The bytes of process 0."""
    mine = np.frombuffer(data, np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(mine))))
    sent = mine if is_main() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8).tobytes()


def to_host(tree: Any) -> Any:
    """Whole arrays as numpy in every process, wherever their parts lie."""

    def one(x: Any) -> np.ndarray:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return np.asarray(x)
        if x.is_fully_replicated:
            return np.asarray(x.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(one, tree)
