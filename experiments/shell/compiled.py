"""What XLA has compiled is kept: the next start need not compile it again."""

import hashlib
import os
import pathlib

import jax

from experiments.shell.provenance import processor

MOST_BYTES = 1 << 30  # what was not used for longest goes first


def keep() -> None:
    """Turns JAX's persistent cache on, in the user's cache folder.

    JAX's own settings hold: ``JAX_COMPILATION_CACHE_DIR`` is another folder,
    ``JAX_ENABLE_COMPILATION_CACHE=0`` none. Where the folder cannot be made, nothing
    is kept.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or a user without a home
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)


def folder() -> pathlib.Path:
    """Where it lies; apart for each kind of processor, as machines may share a home.

    Raises:
      RuntimeError: the user has no home.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    caches = pathlib.Path(given) if given else pathlib.Path.home() / ".cache"
    kind = hashlib.sha256(processor().encode()).hexdigest()[:8]
    return caches / "ofmu_jax" / f"xla-{kind}"
