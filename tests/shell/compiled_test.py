"""What is compiled once, the next process reads, where JAX is not told otherwise."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from experiments.shell import compiled

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = """
import jax, jax.numpy as jnp
from experiments.shell import compiled
compiled.keep()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
print(float(jax.jit(lambda x: jnp.sin(x) + 1)(0.0)))
print(sum("cache_hits" in name for name in events))
"""


def run(home: pathlib.Path, **environment: str) -> list[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_C", "XDG"))}
    paths = {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=kept | paths | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_next_process_compiles_nothing(tmp_path):
    assert run(tmp_path) == ["1.0", "0"]
    (place,) = (tmp_path / ".cache" / "ofmu_jax").iterdir()
    assert list(place.glob("jit_*"))
    value, hits = run(tmp_path)
    assert value == "1.0" and int(hits) >= 1


@pytest.mark.parametrize(
    "environment",
    [
        {"JAX_ENABLE_COMPILATION_CACHE": "0"},
        {"HOME": "/dev/null"},  # no folder can be made there
    ],
)
def test_without_a_cache_everything_is_compiled(tmp_path, environment):
    for _ in range(2):
        assert run(tmp_path, **environment) == ["1.0", "0"]


def test_another_folder_may_be_named(tmp_path):
    other = str(tmp_path / "other")
    run(tmp_path, JAX_COMPILATION_CACHE_DIR=other)
    assert not (tmp_path / ".cache").exists() and os.listdir(other)


def test_processors_do_not_share_programs(monkeypatch):
    found = set()
    for name in ("one", "two"):
        monkeypatch.setattr(compiled, "processor", lambda name=name: name)
        found.add(compiled.folder())
    assert len(found) == 2


def test_while_it_compiles_it_says_so():
    compiled.clock()  # from here on it listens
    assert compiled.compiling() == 0.0
    seen = []

    def traced(x):  # runs while the program is being made
        seen.append(compiled.compiling())
        return x + 1

    jax.jit(traced)(jnp.ones(3))
    assert len(seen) == 1 and seen[0] > 0.0
    assert compiled.compiling() == 0.0


def test_the_clock_tells_what_was_compiled_and_counts_no_second_twice():
    inner = jax.jit(lambda x: jnp.sin(x) ** 2)
    outer = jax.jit(lambda x: inner(x) + inner(2 * x))  # traced within each other
    x = jnp.ones(3)
    start = compiled.clock()
    outer(x)
    middle = compiled.clock()
    spent = middle.since(start)
    assert 0 < spent.compiling < spent.seconds
    outer(x)
    assert compiled.clock().since(middle).compiling == 0
