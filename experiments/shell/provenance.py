"""Which code ran: version, commit, libraries, machine."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

import ofmu_jax.version
from experiments.shell import program

PACKAGE = pathlib.Path(ofmu_jax.version.__file__)
LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
)


def code() -> dict[str, Any]:
    """Version and commit of this package, library versions, Python and platform."""
    return {
        "ofmu_jax": ofmu_jax.version.__version__,
        **git_state(PACKAGE),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": jax.default_backend(),
    }


def made(module: str) -> dict[str, Any]:
    """When and by which command line something is made, and where: for reports."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([*program.words(module), *sys.argv[1:]]),
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Versions and devices that the numbers came from."""
    return {
        "ofmu_jax": ofmu_jax.version.__version__,
        "jax": jax.__version__,
        "devices": [str(device) for device in jax.devices()],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": os.cpu_count(),
    }


def processor(cpuinfo: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> str:
    """The processor's model; its architecture where the system has none.

    With family, model number and stepping where they are known: virtual machines
    give processors that compute differently the same name.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = (part.strip() for part in line.partition(":"))
        found.setdefault(name, value)
    if "model name" not in found:
        return platform.machine()
    kinds = {"family": "cpu family", "model": "model", "stepping": "stepping"}
    numbers = [f"{kind} {found[k]}" for kind, k in kinds.items() if k in found]
    return ", ".join([found["model name"], *numbers])


def commit() -> str | None:
    """The commit that the package lies in, with ``-dirty`` where files differ."""
    state = git_state(PACKAGE)
    found = state["git_commit"]
    return f"{found}-dirty" if found and state["git_changed"] else found


def git_state(file: pathlib.Path) -> dict[str, Any]:
    """The commit of the repository that tracks ``file``; None outside of one.

    ``git_changed`` is True if tracked files differ from that commit.
    """
    commit, changed = None, None
    # An installed copy may lie in a repository that is not this project's.
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is not None:
        commit = _git(file.parent, "rev-parse", "HEAD")
        status = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
        changed = None if status is None else bool(status)
    return {"git_commit": commit, "git_changed": changed}


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
