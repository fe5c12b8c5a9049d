"""Imports go one way: the core knows nothing of models, data or the command line."""

import ast
import pathlib

import pytest

import ofmu_jax

PACKAGE = pathlib.Path(ofmu_jax.__file__).parent
CORE = {"_derivatives", "_loops", "_trees", "bilevel", "choices", "transform"}
ABOVE = {"methods", "training", "evals", "checkpoint", "snapshots"}
ALL = {path.stem for path in PACKAGE.iterdir()} - {"__init__", "version"}
# Part of the package -> parts that it may not import.
FORBIDDEN = dict.fromkeys(CORE, ALL - CORE) | {
    "losses": ABOVE | {"models"},
    "data": ABOVE | {"models", "losses"},
    "models": ABOVE | {"losses"},
    "methods": ABOVE - {"methods"},
    "evals": {"methods", "training"},
}


def imported(part: str) -> set[str]:
    """Parts of the package that one of them imports."""
    path = PACKAGE / part
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not [name for name in names if name.split(".")[0] == "experiments"]
    split = [name.split(".") for name in names]
    return {name[1] for name in split if name[0] == "ofmu_jax" and len(name) > 1}


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_imports_go_one_way(part):
    assert imported(part).isdisjoint(FORBIDDEN[part])
