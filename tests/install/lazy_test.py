"""`import ofmu_jax` is enough, and imports no more than it did."""

import ast
import pathlib
import subprocess
import sys

import pytest

import ofmu_jax

ROOT = pathlib.Path(ofmu_jax.__file__).parent
WINGS = {path.parent.name for path in ROOT.glob("*/__init__.py")}
NAMES = {"unlearn"}  # functions that are imported late as well
PROGRAM = """
import sys, ofmu_jax
loaded = lambda: {name.split(".")[1] for name in sys.modules if "ofmu_jax." in name}
print(sorted(loaded() & WINGS))
print(ofmu_jax.methods.METHODS["npo"].title, ofmu_jax.losses.preference.npo.__name__)
print(ofmu_jax.unlearn.__name__, "transformers" in sys.modules)
"""


def test_parts_are_imported_when_they_are_used():
    program = PROGRAM.replace("WINGS", repr(WINGS))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[:2] == ["[]", "NPO npo"], done.stderr
    assert done.stdout.splitlines()[2] == "unlearn False"


@pytest.mark.parametrize("name", ["nothing", "_nothing", "__wrapped__"])
def test_what_is_not_there_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(ofmu_jax, name)


def test_type_checkers_see_every_part():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } - {None}
    assert seen == WINGS | NAMES
    assert (ROOT / "py.typed").exists()
