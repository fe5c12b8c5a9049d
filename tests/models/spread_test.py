"""Models in and out by slices: who reads what, and how much the host holds of it."""

import json
import tracemalloc

import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import pytest
import safetensors.numpy
from processes import ROOT, job

from ofmu_jax.models import tensor_slices, tensor_writer
from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.huggingface.folder import (
    ModelError,
    load_pretrained,
    save_pretrained,
)
from ofmu_jax.models.tensor_writer import Entry
from ofmu_jax.parallel import sharding

MESHES = ("data=2,fsdp=2,tensor=2", "fsdp=8", "fsdp=4,tensor=2")
WORKER = ROOT / "tests/toys/spread_worker.py"


def given(folder, name="llama2", dtype="float32", **entries):
    tensors = families.tensors_of(name, dtype)
    return families.write(folder, families.ALL[name] | entries, tensors)


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("llama2", "float32", None),
        ("llama3", "bfloat16", "float32"),
        ("llama_biases", "float16", "bfloat16"),
        ("qwen3", "bfloat16", None),
    ],
)
def test_on_a_mesh_it_is_the_same_model(tmp_path, mesh, name, kind, dtype):
    folder = given(tmp_path / "in", name, kind)
    config, whole = load_pretrained(folder, dtype)
    mesh = sharding.make_mesh(mesh)
    found, parts = load_pretrained(folder, dtype, mesh)
    assert found == config
    wanted = sharding.shardings(whole, mesh)
    for (path, a), b, lie in zip(
        jax.tree.leaves_with_path(whole),
        jax.tree.leaves(parts),
        jax.tree.leaves(wanted),
        strict=True,
    ):
        assert b.dtype == a.dtype == jnp.dtype(dtype or kind), path
        assert b.sharding == lie, path
        np.testing.assert_array_equal(a, b, err_msg=str(path))


# --- how much the host holds ---------------------------------------------------------

# 8 layers; a stack of them is 8 of the tensors in the files.
BIG = families.ALL["llama2"] | {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 8,
}
MATRIX, TABLE = 384 * 128 * 4, 512 * 128 * 4  # bytes in float32


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    config = families.huggingface.config_from_hf(
        families.transformers.LlamaConfig(
            **{k: v for k, v in BIG.items() if k != "model_type"}
        )
    )
    tensors = families.random_tensors(dict(weights.tensor_shapes(config)), 0)
    half = {name: x.astype(jnp.bfloat16) for name, x in tensors.items()}
    return families.write(tmp_path_factory.mktemp("big"), BIG, half)


def peak_of(function):
    """The result, and the most that NumPy and Python held on the way to it."""
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bytes_of(params):
    return sum(x.nbytes for x in jax.tree.leaves(params))


@pytest.mark.parametrize("mesh", [None, "fsdp=8"])
def test_a_load_holds_no_more_than_the_model(big, mesh, monkeypatch):
    """On CPUs the slices that are filled are the model's own memory."""
    monkeypatch.setattr(tensor_slices, "_ELEMENTS", 2**14)
    mesh = None if mesh is None else sharding.make_mesh(mesh)
    load = lambda: load_pretrained(big, "float32", mesh)
    load()  # imports
    (_, params), peak = peak_of(load)
    share = bytes_of(params)
    assert 37 * MATRIX < share < peak < 1.1 * share


def test_a_load_asks_for_slices_and_fills_one_at_a_time(big, monkeypatch):
    mesh = sharding.make_mesh("fsdp=8")
    asked, made = [], []
    fill, empty = tensor_slices.Slices.fill, tensor_slices._empty

    def noted(self, out, name, index, **options):
        asked.append((name, out.size))
        fill(self, out, name, index, **options)

    def noted_empty(shape, dtype):
        made.append(shape)
        return empty(shape, dtype)

    monkeypatch.setattr(tensor_slices.Slices, "fill", noted)
    monkeypatch.setattr(tensor_slices, "_empty", noted_empty)
    _, params = load_pretrained(big, "float32", mesh)
    sizes = {}
    for name, size in asked:
        sizes.setdefault(name, []).append(size)
    assert sizes["model.layers.3.mlp.up_proj.weight"] == [384 * 128 // 8] * 8
    assert sizes["lm_head.weight"] == [512 * 128 // 8] * 8
    assert sizes["model.norm.weight"] == [128]  # once, for all devices
    shards = {x.addressable_shards[0].data.shape for x in jax.tree.leaves(params)}
    assert set(made) == shards


@pytest.mark.parametrize("source", [False, True])
def test_an_export_holds_a_tensor_and_no_stack(big, source, tmp_path):
    mesh = sharding.make_mesh("fsdp=8")
    options = {"source": big} if source else {}
    largest = MATRIX if not source else MATRIX // 2

    def write(at, config, params):
        save_pretrained(tmp_path / at, params, config, **options)

    write("warm", *load_pretrained(big, "float32", mesh))
    model = load_pretrained(big, "float32", mesh)  # of which JAX keeps no copy yet
    _, peak = peak_of(lambda: write("out", *model))
    assert TABLE // 2 < peak
    assert peak < 3 * largest + TABLE < 8 * MATRIX
    found, expected = (families.read_all(f) for f in (tmp_path / "out", big))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name].astype(tensor.dtype), tensor)


@pytest.mark.parametrize("options", [{}, {"max_shard_bytes": 20_000}, {"source": 1}])
def test_an_export_from_a_mesh_has_the_same_bytes(tmp_path, options):
    folder = given(tmp_path / "in", "llama3", "bfloat16")
    for at, mesh in (("one", None), ("many", sharding.make_mesh(MESHES[0]))):
        config, params = load_pretrained(folder, "float32", mesh)
        more = {"source": folder} if "source" in options else options
        save_pretrained(tmp_path / at, params, config, **more)
    one, many = (
        {path.name: path.read_bytes() for path in (tmp_path / at).iterdir()}
        for at in ("one", "many")
    )
    assert one == many
    if "source" in options:
        assert many[weights.SINGLE] == (folder / weights.SINGLE).read_bytes()


# --- what is refused -----------------------------------------------------------------


def test_a_slice_that_is_not_finite_names_the_tensor(tmp_path):
    tensors = families.tensors_of("llama2")
    tensors["model.layers.2.mlp.down_proj.weight"][-1, -1] = np.nan
    folder = families.write(tmp_path, families.ALL["llama2"], tensors)
    with pytest.raises(ModelError, match=r"layers.2.mlp.down_proj.weight' .* has NaN"):
        load_pretrained(folder, mesh=sharding.make_mesh("fsdp=8"))


def test_a_tied_head_that_differs_in_one_slice(tmp_path):
    tensors = families.tensors_of("llama3")
    head = tensors[weights.EMBEDDING].copy()
    head[-1, -1] += 1e-3
    folder = families.write(
        tmp_path, families.ALL["llama3"], tensors | {weights.HEAD: head}
    )
    with pytest.raises(ModelError, match=r"lm_head.weight' .* differs"):
        load_pretrained(folder, mesh=sharding.make_mesh("fsdp=8"))


def test_a_tied_head_of_another_dtype_is_looked_at_and_left(tmp_path):
    tensors = families.tensors_of("llama3", "bfloat16")
    head = tensors[weights.EMBEDDING].astype(np.float32)
    both = tensors | {weights.HEAD: head}
    folder = families.write(tmp_path / "same", families.ALL["llama3"], both)
    _, params = load_pretrained(folder)
    assert params["embed_tokens"]["embedding"].dtype == jnp.bfloat16
    head[0, 0] *= 1 + 2**-20  # which bfloat16 does not hold
    folder = families.write(tmp_path / "other", families.ALL["llama3"], both)
    with pytest.raises(ModelError, match="differs"):
        load_pretrained(folder)
    load_pretrained(folder, "bfloat16")  # as it is then, it is the same


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", ["é", "a" * 3])
def test_files_have_the_bytes_of_the_safetensors_package(tmp_path, metadata):
    rng = np.random.default_rng(0)
    kinds = [np.float32, jnp.bfloat16, np.float16, np.float32]
    tensors = {
        f"{name}.{metadata}": rng.standard_normal(shape).astype(kind)
        for name, shape, kind in zip(
            "dbca", [(3, 5), (7,), (2, 2, 3), (1,)], kinds, strict=True
        )
    }
    entries = {name: Entry(x.dtype, x.shape) for name, x in tensors.items()}
    tensor_writer.write_file(tmp_path / "ours", entries, tensors.__getitem__)
    safetensors.numpy.save_file(tensors, tmp_path / "theirs", {"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tensors_that_begin_anywhere(tmp_path):
    """Headers need not end where a float may begin."""
    tensors = families.tensors_of("llama2")
    folder = families.write(tmp_path, families.ALL["llama2"], tensors)
    content = (folder / weights.SINGLE).read_bytes()
    size = int.from_bytes(content[:8], "little")
    text = json.dumps(json.loads(content[8 : 8 + size])).encode()
    text += b" " * (1 + -len(text) % 4)
    rest = content[8 + size :]
    (folder / weights.SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + rest)
    _, params = load_pretrained(folder)
    np.testing.assert_array_equal(params["lm_head"], tensors[weights.HEAD])


# --- two processes -------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_read_and_write_one_model(tmp_path):
    folder = given(tmp_path / "in", "llama_biases", "bfloat16")
    job(lambda address, n: [str(WORKER), address, n, str(tmp_path)], devices=2)
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "01")
    layer = 4 * 32 * 32 + 3 * 32 * 40
    matrices, vectors = 3 * layer + 2 * 61 * 32, 3 * (6 * 32 + 2 * 40 + 32) + 32
    for n, found in enumerate((first, second)):
        # Half of each matrix in the bytes of the files, and all vectors.
        assert found["read"] == 2 * (matrices / 2 + vectors)
        assert found["values"] == "equal"
        assert 500 < found["gathered"] <= 1000  # bytes; a matrix has up to 7,808
        assert found["exists"].startswith(
            ("FileExistsError", "OtherProcessError: FileExistsError")[n]
        )
        assert "ModelError" in found["broken"] or "OtherProcess" in found["broken"]
    assert not list(tmp_path.glob("bad*"))  # not even in part
    assert not set(map(tuple, first["ranges"])) & set(map(tuple, second["ranges"]))
    given_bytes = (folder / weights.SINGLE).read_bytes()
    assert (tmp_path / "like" / weights.SINGLE).read_bytes() == given_bytes
    config, params = load_pretrained(folder, "float32")
    save_pretrained(tmp_path / "alone", params, config, max_shard_bytes=30_000)
    alone, together = (
        {path.name: path.read_bytes() for path in (tmp_path / at).iterdir()}
        for at in ("alone", "anew")
    )
    assert alone == together
