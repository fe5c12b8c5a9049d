"""Parameters as a folder of a given dtype holds them."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.llama.model import LlamaConfig, Params
from ofmu_jax.models.tensor_files import DTYPES, ModelError


def rounded(params: Params, config: LlamaConfig, source: pathlib.Path) -> Params:
    """Parameters as `weights.write_params_like` writes them, in their own dtype.

    Where the files hold as many bits as the parameters, that is what was given.

    Raises:
      ModelError: a value that is too large for the dtype of its tensor.
    """
    infos: Any = weights.read_infos(source)
    flat: dict[Any, Any] = dict(flatten_dict(params))
    wanted: dict[tuple[str, ...], list[Any]] = {}
    for name, (path, _, _) in weights.places(config).items():
        if name in infos:
            wanted.setdefault(path, []).append(DTYPES[infos[name].dtype])
    for path, dtypes in wanted.items():
        flat[path] = _rounded(".".join(path), flat[path], dtypes)
    return unflatten_dict(flat)


def _rounded(name: str, leaf: jax.Array, dtypes: list[Any]) -> jax.Array:
    """A leaf, or each of its layers, through a dtype and back.

    One operation after the other: compiled together, a cast and its inverse are
    taken for nothing.
    """
    if all(jnp.promote_types(leaf.dtype, dtype) == dtype for dtype in dtypes):
        return leaf
    if len(set(dtypes)) == 1:
        found = leaf.astype(dtypes[0]).astype(leaf.dtype)
    elif not name.startswith("layers."):  # an embedding that is the head as well
        found = functools.reduce(lambda x, t: x.astype(t).astype(x.dtype), dtypes, leaf)
    else:
        found = leaf
        for dtype in set(dtypes):
            these = np.array([dtype == of_layer for of_layer in dtypes])
            these = these.reshape(-1, *[1] * (leaf.ndim - 1))
            found = jnp.where(these, leaf.astype(dtype).astype(leaf.dtype), found)
    if bool(jnp.isfinite(leaf).all()) and not bool(jnp.isfinite(found).all()):
        raise ModelError(
            f"{name!r} has entries that {'/'.join(sorted(set(dtypes)))}, the type of "
            "the given files, cannot hold; give the model in bfloat16 or float32."
        )
    return found
