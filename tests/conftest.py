"""Shared fixtures: eight simulated devices, and the real data where it is at hand."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """Folder of real data (``$OFMU_DATA``, else ``../shared/data``); skips if absent."""
    folder = os.environ.get("OFMU_DATA", REPOSITORY.parent / "shared" / "data")
    path = pathlib.Path(folder)
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}; set OFMU_DATA to its folder")
    return path
