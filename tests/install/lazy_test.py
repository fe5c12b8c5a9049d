"""`import ofmu_jax` is enough, and imports no more than it did."""

import ast
import pathlib
import subprocess
import sys

import pytest

import ofmu_jax

ROOT = pathlib.Path(ofmu_jax.__file__).parent
WINGS = {path.parent.name for path in ROOT.glob("*/__init__.py")}
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


def test_consoles_complete_what_is_imported_late():
    names = set(dir(ofmu_jax))
    assert {"unlearn", "load_run", "ofmu", "__version__"} | WINGS <= names
    assert {"likelihood", "preference"} <= set(dir(ofmu_jax.losses))
    assert not {"TYPE_CHECKING", "submodules", "_loops"} & names


@pytest.mark.parametrize("name", ["nothing", "_nothing", "__wrapped__"])
def test_what_is_not_there_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(ofmu_jax, name)


LATE = {"load_run", "unlearn"}  # functions in files that are imported late
LAZY = [
    path
    for path in (ROOT / "__init__.py", *sorted(ROOT.glob("*/__init__.py")))
    if "submodules(__name__)" in path.read_text()
]


@pytest.mark.parametrize("path", LAZY, ids=lambda path: path.parent.name)
def test_type_checkers_see_every_part(path):
    tree = ast.parse(path.read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } - {None}
    folder = path.parent
    files = {x.stem for x in folder.glob("*.py")} if folder != ROOT else set()
    parts = files | {x.parent.name for x in folder.glob("*/__init__.py")}
    assert seen - LATE == parts - {"__init__"}
