"""Parts of a package that are imported when they are first used (PEP 562)."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

_OWN = {"TYPE_CHECKING", "submodules"}  # what the files of packages import for this


def submodules(
    package: str, **names: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A module's ``__getattr__`` and ``__dir__``: its public submodules, and names
    within them.

    Args:
      package: its name.
      names: name -> the submodule that has it.

    >>> import ofmu_jax
    >>> ofmu_jax.losses.likelihood.__name__
    'ofmu_jax.losses.likelihood'
    >>> ofmu_jax.load_run.__module__
    'ofmu_jax.runs'
    """

    def of(name: str) -> Any:
        """What has that name; AttributeError if there is nothing."""
        if name in names:
            return getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        path = f"{package}.{name}"
        if name.startswith("_") or importlib.util.find_spec(path) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(path)

    def listed() -> list[str]:
        """What a console completes."""
        module = sys.modules[package]
        public = lambda name: not name.startswith("_") or name.startswith("__")
        parts = (part.name for part in pkgutil.iter_modules(module.__path__))
        found = {*vars(module), *names, *parts} - _OWN
        return sorted(filter(public, found))

    return of, listed
