"""Parameters on disk, through Orbax."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

Params = Any


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another model."""


def save(folder: str | pathlib.Path, params: Params) -> None:
    """Writes a pytree; Orbax renames the finished folder, so it is whole or absent."""
    path = pathlib.Path(folder).absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, params, force=True)


def restore(folder: str | pathlib.Path, like: Params) -> Params:
    """Reads a pytree with the structure, shapes and dtypes of ``like``.

    Args:
      folder: what `save` wrote.
      like: arrays or `jax.ShapeDtypeStruct`, with shardings if they matter.

    Raises:
      CheckpointError: if the folder is absent, damaged, or of another model.
    """
    path = pathlib.Path(folder).absolute()
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint at {path}.")
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            _check_shapes(path, checkpointer.metadata(path), abstract)
            return checkpointer.restore(path, abstract)
    except CheckpointError:
        raise
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint at {path} cannot be read: {error}"
        ) from error


def _check_shapes(path: pathlib.Path, metadata: Any, abstract: Params) -> None:
    """Orbax pads or cuts arrays of another shape in silence; this does not."""
    tree = getattr(metadata, "item_metadata", metadata)
    found = _shapes(getattr(tree, "tree", tree))
    wanted = _shapes(abstract)
    if wanted and not found:
        raise CheckpointError(
            f"the checkpoint at {path} is damaged: it names no arrays."
        )
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise CheckpointError(
                f"the checkpoint at {path} is of another model: {name} has shape "
                f"{found.get(name, 'none')}, expected {wanted.get(name, 'none')}."
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in flat}
