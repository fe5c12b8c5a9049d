"""Which code ran: version, commit, libraries, machine."""

import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

import ofmu_jax.version

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
        **git_state(pathlib.Path(ofmu_jax.version.__file__)),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": jax.default_backend(),
    }


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
