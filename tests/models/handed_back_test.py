"""save_pretrained(source=…): what of a given folder comes back, and in which dtype."""

import json
import os

import jax
import jax.numpy as jnp
import model_families as families
import numpy as np
import pytest
import real_folders

from ofmu_jax.models.huggingface import copies, readers, weights
from ofmu_jax.models.huggingface.folder import (
    CHANGED,
    ModelError,
    config_to_hf,
    left_out,
    load_config,
    load_pretrained,
    load_tokenizer,
    save_pretrained,
)
from ofmu_jax.models.huggingface.rounding import rounded

KERNEL = "model.layers.1.mlp.up_proj.weight"


def given(folder, tensors=None, **entries):
    tensors = families.tensors_of("llama3") if tensors is None else tensors
    return families.write(folder, families.ALL["llama3"] | entries, tensors)


def handed_back(source, out, change=lambda params: params, **options):
    config, params = load_pretrained(source, dtype="float32")
    save_pretrained(out, change(params), config, source=source, **options)
    return out


def names(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files}


def assert_bit_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].tobytes() == tensor.tobytes(), name


# --- files


COPIED = {
    "generation_config.json": b'{"eos_token_id": [2, 9]}',
    "tokenizer.json": b"not looked at",
    "tokenizer_config.json": b"{ }\n\n",
    "special_tokens_map.json": b"{}",
    "added_tokens.json": b"{}",
    "preprocessor_config.json": b"{}",
    "chat_template.jinja": b"{{ bos_token }}\r\n",
    "additional_chat_templates/tools.jinja": b"{{ x }}",
    "tokenizer.model": b"\x00\xff",
    "vocab.json": b"{}",
    "merges.txt": b"#version: 0.2\n",
    "LICENSE": b"MIT",
    "LICENCE.txt": b"MIT",
    "NOTICE": b"n",
    "USE_POLICY.md": b"p",
    "README_zh.md": b"\xff",
    ".gitattributes": b"* text",
}
LEFT = {
    **{f"pytorch_model{suffix}": b"w" for suffix in (".bin", ".bin.index.json", ".pt")},
    **{f"m{suffix}": b"w" for suffix in (".gguf", ".onnx", ".h5", ".msgpack", ".pkl")},
    **{name: b"s" for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")},
    **{name: b"s" for name in ("trainer_state.json", "training_args.bin")},
    **{name: b"c" for name in ("modeling.py", "tokenization_x.py", "run.sh")},
    **{name: b"k" for name in ("deletion.key", "deletion.json", "adapter_config.json")},
    "original/params.json": b"{}",
    "onnx/config.json": b"{}",
    "notes.docx": b"?",
    "consolidated.safetensors": b"w",
    weights.INDEX: b"{}",  # beside a single file, which is read in its place
}


def fill(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def test_what_is_copied_and_what_stays_behind(tmp_path):
    source = given(tmp_path / "in")
    fill(source, COPIED | LEFT)
    out = handed_back(source, tmp_path / "out")
    assert names(out) == {*COPIED, "config.json", "README.md", weights.SINGLE}
    for name in (*COPIED, "config.json"):
        assert (out / name).read_bytes() == (source / name).read_bytes(), name
    told = {name.rpartition("/")[0] + "/" if "/" in name else name for name in LEFT}
    assert set(left_out(source)) == told - {"deletion.json"}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_copies_have_the_mode_that_the_umask_leaves(tmp_path, mask):
    source = given(tmp_path / "in")
    fill(source, {"tokenizer.json": b"{}", "additional_chat_templates/a.jinja": b""})
    for path in source.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o600)
    before = os.umask(mask)
    try:
        out = handed_back(source, tmp_path / "out")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()}
    assert modes == {0o666 & ~mask}


@pytest.mark.parametrize("name", ["tokenizer_config.json", "vocab.txt", "x.json"])
def test_a_link_out_of_the_folder_is_refused_where_a_model_is_read(tmp_path, name):
    source = given(tmp_path / "in")
    (tmp_path / "secret").write_text("{}")
    (source / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=f"{name} in {source} is a link to a"):
        handed_back(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_links_out_of_the_folder_stay_behind(tmp_path):
    source = given(tmp_path / "in")
    (tmp_path / "secret").write_text("secret")
    for name in ("README.md", "LICENSE", "notes.txt"):
        (source / name).symlink_to(tmp_path / "secret")
    (source / copies.TEMPLATES).symlink_to(tmp_path)
    (tmp_path / "x.jinja").write_text("secret")
    out = handed_back(source, tmp_path / "out")
    assert names(out) == {"config.json", "README.md", weights.SINGLE}
    assert (out / "README.md").read_text() == f"> {CHANGED}\n"


def test_the_cache_of_the_hub_links_to_its_own_files(tmp_path):
    blobs, source = tmp_path / "blobs", tmp_path / "snapshots" / "a1"
    given(source)
    blobs.mkdir()
    (source / "config.json").rename(blobs / "c0")
    (source / "config.json").symlink_to("../../blobs/c0")
    out = handed_back(source, tmp_path / "out")
    assert (out / "config.json").read_bytes() == (blobs / "c0").read_bytes()
    assert not (out / "config.json").is_symlink()


def test_names_that_cannot_be_printed_stay_behind(tmp_path):
    """They would be in the record, which is UTF-8."""
    tensors = families.tensors_of("llama3")
    source = families.write(
        tmp_path / "in", families.ALL["llama3"], tensors, **{"a\nb": list(tensors)}
    )
    for name in (b"\xff.json", b"a\n.txt"):
        (source / os.fsdecode(name)).write_text("{}")
    assert left_out(source) == ["'a\\n.txt'", "'\\udcff.json'"]
    out = handed_back(source, tmp_path / "out")
    assert names(out) == {
        *("README.md", "a_b.safetensors", "config.json", weights.INDEX)
    }
    assert_bit_equal(families.read_all(out), tensors)


def test_a_file_that_no_tokenizer_is_as_large_as(tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "_MAX_BYTES", 2000)
    source = given(tmp_path / "in")
    fill(source, {"notes.txt": bytes(2001), "LICENSE": bytes(2000)})
    assert names(handed_back(source, tmp_path / "out")) >= {"LICENSE"}
    assert left_out(source) == ["notes.txt"]
    fill(source, {"tokenizer.json": bytes(2001)})
    with pytest.raises(ModelError, match=r"tokenizer.json in .* has 2,001 bytes"):
        left_out(source)


def test_source_has_a_tokenizer_and_a_config_of_its_own(tmp_path):
    source = given(tmp_path / "in")
    config, params = load_pretrained(source)
    for more in ({"hf_config": config_to_hf(config)}, {"tokenizer": object()}):
        with pytest.raises(ValueError, match="leave out hf_config and"):
            save_pretrained(tmp_path / "out", params, config, source=source, **more)
    other = given(tmp_path / "other", rms_norm_eps=1e-6)
    with pytest.raises(ModelError, match=f"config.json of {other} describes another"):
        save_pretrained(tmp_path / "out", params, config, source=other)


# --- dtypes and names of tensors


@pytest.mark.parametrize(
    ("dtype", "entries"),
    [
        ("float32", {"torch_dtype": "bfloat16"}),
        ("bfloat16", {}),
        ("float16", {"dtype": "float32"}),
    ],
)
def test_dtype_is_that_of_the_files(tmp_path, dtype, entries):
    tensors = families.tensors_of("llama3", dtype)
    source = given(tmp_path / "in", tensors, **entries)
    out = handed_back(source, tmp_path / "out")
    assert_bit_equal(families.read_all(out), tensors)
    assert (out / "config.json").read_bytes() == (source / "config.json").read_bytes()


def test_each_tensor_keeps_its_own_dtype(tmp_path):
    tensors = families.tensors_of("llama3", "bfloat16")
    for name in (KERNEL, "model.norm.weight"):
        tensors[name] = tensors[name].astype(np.float32)
    tensors[weights.HEAD] = tensors[weights.EMBEDDING]  # tied, and written once more
    order = sorted(tensors)
    source = families.write(
        tmp_path / "in", families.ALL["llama3"], tensors, b=order[:9], a=order[9:]
    )
    out = handed_back(source, tmp_path / "out")
    assert_bit_equal(families.read_all(out), tensors)
    assert names(out) == names(source) | {"README.md"}  # files by their names, too
    index = (source / weights.INDEX).read_bytes()
    assert (out / weights.INDEX).read_bytes() == index
    config = load_pretrained(out)[0]
    assert weights.dtypes(out, config) == {"bfloat16": len(tensors) - 2, "float32": 2}


def test_constants_of_older_exports_come_back(tmp_path):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    tensors = families.tensors_of("llama3", "bfloat16")
    tensors[name] = np.arange(4, dtype=np.float32)
    out = handed_back(given(tmp_path / "in", tensors), tmp_path / "out")
    assert_bit_equal(families.read_all(out), tensors)


def test_another_dtype_changes_its_entries_alone(tmp_path):
    source = given(tmp_path / "in", torch_dtype="float32", note="kept")
    out = handed_back(source, tmp_path / "out", dtype="bfloat16")
    half = families.tensors_of("llama3", "bfloat16")
    assert_bit_equal(families.read_all(out), half)
    before, after = (json.loads((f / "config.json").read_text()) for f in (source, out))
    assert after == before | {"torch_dtype": "bfloat16", "dtype": "bfloat16"}


# In bfloat16 (8 bits) 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷, and goes to the even one.
@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("bfloat16", 1 + 2**-8, 1.0),
        ("bfloat16", 1 + 3 * 2**-8, 1 + 2**-6),
        ("bfloat16", 1 + 2**-8 + 2**-20, 1 + 2**-7),
        ("float16", 1 + 2**-11, 1.0),
        ("float16", 3e-8, 2**-25 * 2 if 3e-8 > 2**-25 else 0),  # the least there is
        ("float32", 1 + 2**-20, 1 + 2**-20),
    ],
)
def test_rounded_is_what_is_written(tmp_path, dtype, value, expected):
    source = given(tmp_path / "in", families.tensors_of("llama3", dtype))
    config, params = load_pretrained(source, dtype="float32")
    params = jax.tree.map(lambda x: jnp.full_like(x, value), params)
    found = rounded(params, config, source)
    for leaf in jax.tree.leaves(found):
        assert leaf.dtype == jnp.float32
        np.testing.assert_array_equal(leaf, np.full(leaf.shape, expected, np.float32))
    save_pretrained(tmp_path / "out", params, config, source=source)
    again = load_pretrained(tmp_path / "out", dtype="float32")[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, again, found))


def test_rounded_layer_by_layer(tmp_path):
    tensors = families.tensors_of("llama3", "bfloat16")
    tensors[KERNEL] = tensors[KERNEL].astype(np.float32)
    source = given(tmp_path / "in", tensors)
    config, params = load_pretrained(source, dtype="float32")
    params = jax.tree.map(lambda x: jnp.full_like(x, 1 + 2**-8), params)
    kernel = rounded(params, config, source)["layers"]["up_proj"]["kernel"]
    assert [float(layer.min()) for layer in kernel] == [1.0, 1 + 2**-8, 1.0]


@pytest.mark.parametrize(
    ("embedding", "head"), [("float32", "bfloat16"), ("bfloat16", "float32")]
)
def test_a_tied_head_of_another_dtype_stays_the_embedding(tmp_path, embedding, head):
    """Two tensors that are one: transformers unties a head that differs."""
    tensors = families.tensors_of("llama3", "bfloat16")
    tensors[weights.HEAD] = tensors[weights.EMBEDDING].astype(jnp.dtype(head))
    tensors[weights.EMBEDDING] = tensors[weights.EMBEDDING].astype(jnp.dtype(embedding))
    source = given(tmp_path / "in", tensors)
    config, params = load_pretrained(source, dtype="float32")
    params = jax.tree.map(lambda x: jnp.full_like(x, 1 + 2**-8 + 2**-20), params)
    save_pretrained(tmp_path / "out", params, config, source=source)
    again = load_pretrained(tmp_path / "out", dtype="float32")[1]
    written, scored = (
        np.unique(found["embed_tokens"]["embedding"])
        for found in (again, rounded(params, config, source))
    )
    assert written == scored == [1 + 2**-7]
    kinds = {name: tensor.dtype for name, tensor in tensors.items()}
    found = families.read_all(tmp_path / "out")
    assert {name: tensor.dtype for name, tensor in found.items()} == kinds


def test_rounded_refuses_what_the_dtype_cannot_hold(tmp_path):
    source = given(tmp_path / "in", families.tensors_of("llama3", "float16"))
    config, params = load_pretrained(source, dtype="float32")
    params["norm"]["scale"] = params["norm"]["scale"].at[0].set(1e6)
    with pytest.raises(ModelError, match=r"'norm.scale' has entries that float16"):
        rounded(params, config, source)


# --- readers


def test_what_transformers_4_would_misread(tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": rope}))
    settings = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<x>"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = "\n".join(readers.problems_in_4(tmp_path))
    assert len(found.splitlines()) == 4
    for word in ("(500000.0)", "(llama3)", "TokenizersBackend", "extra_special_tokens"):
        assert word in found


@pytest.mark.parametrize("name", families.ALL)
def test_what_is_written_anew_has_the_entries_of_both(name, tmp_path):
    config, params = load_pretrained(
        families.write(
            tmp_path / name, families.ALL[name], families.tensors_of(name, "bfloat16")
        )
    )
    save_pretrained(tmp_path / "out", params, config)
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert found["torch_dtype"] == found["dtype"] == "bfloat16"
    assert found["rope_theta"] == config.rope_theta
    scaling = found["rope_scaling"]
    if config.rope_scaling is None:
        assert scaling is None
    else:
        assert scaling == {"rope_type": "llama3", **vars(config.rope_scaling)}
    assert readers.problems_in_4(tmp_path / "out") == []
    # What transformers 4 has no other place for does not get lost in 5 either.
    assert load_pretrained(tmp_path / "out")[0] == config
    assert (
        load_config(tmp_path / "out").rope_parameters["rope_theta"] == config.rope_theta
    )


def test_a_tokenizer_of_5_is_written_for_4(tmp_path):
    source = real_folders.qwen(tmp_path / "in")
    config, params = load_pretrained(source)
    tokenizer = load_tokenizer(source)
    save_pretrained(tmp_path / "out", params, config, tokenizer, load_config(source))
    assert readers.problems_in_4(tmp_path / "out") == []
    again = load_tokenizer(tmp_path / "out")
    assert {"<|im_start|>", "<|im_end|>"} <= set(again.all_special_tokens)
    assert (
        again(real_folders.TEXT)["input_ids"]
        == tokenizer(real_folders.TEXT)["input_ids"]
    )


def test_folders_whose_names_are_patterns(tmp_path):
    """Nothing but checkpoints has to do with patterns."""
    source = real_folders.llama3(tmp_path / "a[x]*?\\b" / "in")
    config, params = load_pretrained(source)
    ids = load_tokenizer(source)("Ada")["input_ids"]
    out = tmp_path / "[x]" / "out"
    save_pretrained(out, params, config, source=source)
    assert_bit_equal(families.read_all(out), families.read_all(source))
    assert load_tokenizer(out)("Ada")["input_ids"] == ids
