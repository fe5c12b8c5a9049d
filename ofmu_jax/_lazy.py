"""Parts of a package that are imported when they are first used (PEP 562)."""

import importlib
import importlib.util
import types
from collections.abc import Callable


def submodules(package: str) -> Callable[[str], types.ModuleType]:
    """A module's ``__getattr__``, for those of its submodules that are public.

    >>> import ofmu_jax
    >>> ofmu_jax.losses.likelihood.__name__
    'ofmu_jax.losses.likelihood'
    """

    def of(name: str) -> types.ModuleType:
        """Imports a submodule; AttributeError if there is none of that name."""
        path = f"{package}.{name}"
        if name.startswith("_") or importlib.util.find_spec(path) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(path)

    return of
