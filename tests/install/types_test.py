"""Types that users see: by themselves, and through mypy and pyright where installed."""

import importlib.util
import inspect
import pathlib
import runpy
import subprocess
import sys
import typing

import pytest

import ofmu_jax
from ofmu_jax import bilevel, evals, methods, training
from ofmu_jax.losses import bounded, likelihood, margin, preference, vision

PROGRAM = pathlib.Path(__file__).with_name("typed_user.py")
ROOT = PROGRAM.parents[2]
MODULES = (ofmu_jax, bilevel, methods, training, evals, likelihood, preference)
FUNCTIONS = {
    f"{module.__name__}.{name}": found
    for module in MODULES
    for name, found in vars(module).items()
    if inspect.isfunction(found) and found.__module__.startswith("ofmu_jax")
}


def test_the_package_is_marked_as_typed():
    assert (ROOT / "ofmu_jax/py.typed").exists()


def test_the_program_that_checkers_read_runs():
    runpy.run_path(str(PROGRAM), run_name="__main__")


def test_every_parameter_of_a_public_function_has_a_type():
    bare = [
        f"{name}({parameter.name})"
        for name, function in FUNCTIONS.items()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
        if parameter.annotation is parameter.empty
    ]
    assert len(FUNCTIONS) > 50 and not bare


@pytest.mark.parametrize(
    "function, parameter, known",
    [
        (ofmu_jax.ofmu, "similarity", bilevel.SIMILARITIES),
        (ofmu_jax.ofmu, "curvature", bilevel.CURVATURES),
        (ofmu_jax.ofmu, "penalty", bilevel.PENALTIES),
        (ofmu_jax.ofmu, "retain_direction", bilevel.RETAIN_DIRECTIONS),
        (bounded.ascended_loss, "name", bounded.ASCENDED),
        (vision.ascended_loss, "name", vision.ASCENDED),
        (margin.logit_margin, "positions", margin.POSITIONS),
    ],
)
def test_choices_are_literals_of_what_is_checked(function, parameter, known):
    hint = typing.get_type_hints(function)[parameter]
    assert typing.get_origin(hint) is typing.Literal
    assert typing.get_args(hint) == tuple(known)


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_checkers_see_the_types(checker):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed: pip install -e '.[types]'")
    # What they read, and how, is in pyproject.toml.
    command = [sys.executable, "-m", checker]
    command += ["--pythonpath", sys.executable] if checker == "pyright" else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
