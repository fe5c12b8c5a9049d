"""Jobs of several processes on loopback."""

import os
import pathlib
import socket
import subprocess
import sys

WORKER = pathlib.Path(__file__).with_name("distributed_worker.py")
ROOT = WORKER.parents[2]


def job(command, count=2, timeout=900, devices=1, statuses=(0,)):
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
        "PYTHONPATH": str(ROOT),
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
        assert process.returncode in statuses, f"{out}\n{err[-4000:]}"
    return [out for out, _ in found]
