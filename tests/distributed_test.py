"""Two processes with two devices each, on loopback, against one process."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import distributed_worker
import numpy as np
import pytest

from ofmu_jax import distributed

WORKER = pathlib.Path(distributed_worker.__file__)


def job(command, count=2, timeout=900, devices=1):
    """Runs ``command(address, process)`` in every process of a job; their output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JAX_") and "proxy" not in name.lower()
    }
    environment |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": str(WORKER.parent.parent),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *command(address, str(process))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    try:
        found = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, found, strict=True):
        assert process.returncode == 0, f"{out}\n{err[-4000:]}"
    return [out for out, _ in found]


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["data=2,fsdp=2", "fsdp=2,tensor=2"])
def test_two_processes_are_one_program(tmp_path, spec):
    alone = distributed_worker.train(None, tmp_path / "alone")
    job(lambda address, n: [str(WORKER), address, n, spec, str(tmp_path)])
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "01")
    assert first["devices"] == [2, 4]
    assert first["metrics"] == second["metrics"]  # known to both, and the same
    assert first["table"] == second["table"]
    np.testing.assert_allclose(first["table"], alone["table"], rtol=1e-4, atol=1e-5)
    for found, expected in zip(first["metrics"], alone["metrics"], strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
    assert first["told"] == second["told"] == {"by": 0}
    assert first["error"].startswith("ZeroDivisionError")
    assert second["error"].startswith("OtherProcessError: ZeroDivisionError")


def test_alone_there_is_nothing_to_join(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    assert not distributed.initialize()
    assert distributed.is_main()
    nothing = object()
    assert distributed.on_main(lambda: nothing) is nothing


def test_counted_processes_need_a_coordinator(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="--coordinator"):
        distributed.initialize(None, 2, 0)
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    with pytest.raises(ValueError, match="--coordinator"):
        distributed.initialize()
