"""Shared fixtures: eight simulated devices, and the real data where it is at hand."""

import gc
import importlib.util
import mmap
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _known(flag: str) -> bool:
    """Whether this XLA has a flag; one that it does not know would end the process."""
    spec = importlib.util.find_spec("jaxlib")
    assert spec is not None and spec.origin is not None
    library = pathlib.Path(spec.origin).parent / "libjax_common.so"
    if not library.exists():
        return False
    with library.open("rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        return m.find(flag.encode()) >= 0


# Compiling is most of the suite's time and the models are tiny: do it once, and fast.
_FAST = ["--xla_backend_optimization_level=0"]
if _known("xla_cpu_use_fusion_emitters"):  # a third of the time without them
    _FAST.append("--xla_cpu_use_fusion_emitters=false")
if _known("xla_cpu_parallel_codegen_split_count"):  # each part costs a compiler's start
    _FAST.append("--xla_cpu_parallel_codegen_split_count=1")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FAST]).strip()

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
# No program carries the lines that made each of its operations.
jax.config.update("jax_traceback_in_locations_limit", 0)

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CACHES = pathlib.Path(tempfile.gettempdir())


def _cache(run: str) -> pathlib.Path:
    return CACHES / f"ofmu-jax-tests-{run}"


def pytest_configure(config):
    """All processes of a test run share what they compile."""
    worker = getattr(config, "workerinput", None)
    run = worker["testrunuid"] if worker else str(os.getpid())
    jax.config.update("jax_compilation_cache_dir", str(_cache(run)))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_collection_finish():
    """What was imported stays: the collector need not look through it each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # 700, 10, 10: tracing makes millions of objects


def pytest_sessionfinish(session):
    """The process that started the run removes what was compiled."""
    if hasattr(session.config, "workerinput"):
        return
    run = getattr(session.config, "_xdist_run", str(os.getpid()))
    shutil.rmtree(_cache(run), ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Called by pytest-xdist in the process that starts the workers."""
    node.config._xdist_run = node.workerinput["testrunuid"]


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """Folder of real data: ``$OFMU_DATA``, else ``../shared/data``; skips if absent."""
    folder = os.environ.get("OFMU_DATA", REPOSITORY.parent / "shared" / "data")
    path = pathlib.Path(folder)
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}; set OFMU_DATA to its folder")
    return path
