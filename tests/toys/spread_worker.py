"""One of two processes of `spread_test`: loads a model's slices and exports it."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax.models import tensor_slices
from ofmu_jax.models.huggingface.folder import load_pretrained, save_pretrained
from ofmu_jax.models.huggingface.rounding import rounded
from ofmu_jax.parallel import distributed, gathering, sharding


def main(address: str, process: str, folder: str) -> None:
    """Joins the job and writes ``<process>.json``."""
    assert distributed.initialize(address, 2, int(process))
    gathering.BLOCK = 1000  # several of each matrix
    mesh = sharding.make_mesh("fsdp=2,tensor=2")
    at, found = pathlib.Path(folder), {}
    ranges: list[list] = []
    part = tensor_slices.Slices.part

    def noted(self, name, index):
        sizes = zip(index, self._infos[name].shape, strict=True)
        bounds = [piece.indices(size)[:2] for piece, size in sizes]
        ranges.append([name, *(end for pair in bounds for end in pair)])
        found["read"] = found.get("read", 0) + part(self, name, index).nbytes
        return part(self, name, index)

    tensor_slices.Slices.part = noted
    config, params = load_pretrained(at / "in", "float32", mesh)
    matrices = [row for row in ranges if len(row) == 5]
    found["ranges"] = matrices
    params = rounded(params, config, at / "in")  # as a run has it
    tensor_slices.Slices.part = part
    _, whole = load_pretrained(at / "in", "float32")
    same = lambda a, b: all(
        np.array_equal(s.data, np.asarray(a)[s.index]) for s in b.addressable_shards
    )
    equal = jax.tree.all(jax.tree.map(same, whole, params))
    found["values"] = "equal" if equal else "differ"
    replicate = gathering._replicate
    sizes: list[int] = []

    def weighed(mesh):
        return lambda block: sizes.append(block.nbytes) or replicate(mesh)(block)

    gathering._replicate = weighed
    save_pretrained(at / "like", params, config, source=at / "in", card="")
    save_pretrained(at / "anew", params, config, max_shard_bytes=30_000)
    found["gathered"] = max(sizes)
    found["exists"] = failed(lambda: save_pretrained(at / "anew", params, config))
    params["norm"]["scale"] = params["norm"]["scale"] * jnp.nan
    found["broken"] = failed(lambda: save_pretrained(at / "bad", params, config))
    (at / f"{process}.json").write_text(json.dumps(found))


def failed(function) -> str:
    """What it raised."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


if __name__ == "__main__":
    main(*sys.argv[1:])
