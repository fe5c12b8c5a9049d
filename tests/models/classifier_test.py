"""Exported classifiers: bit for bit in and out, and every wrong folder says why."""

import dataclasses
import json
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from ofmu_jax._trees import named
from ofmu_jax.models import classifier, resnet, tensor_writer
from ofmu_jax.models.classifier import CONFIG
from ofmu_jax.models.resnet import ResNetConfig, Variables
from ofmu_jax.models.tensor_files import SINGLE, ModelError

GREY = ResNetConfig("resnet8", 3, mean=(0.3,), std=(0.1,))
NAMES = ("zero", "one", "zwei und ∇")
KERNEL = "params.stage1_block0.conv2.kernel"
VARIANCE = "batch_stats.bn_stem.var"


def variables_of(config, dtype="float32"):
    """Random entries: fresh statistics and biases would all be alike."""
    outline = jax.eval_shape(lambda: resnet.init_variables(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.uniform(0.1, 1, leaf.shape), dtype)
    return jax.tree.map(draw, outline)


VARIABLES = variables_of(GREY)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier") / "model"
    classifier.save(folder, GREY, VARIABLES, class_names=NAMES)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(exported, tmp_path / "model")


def assert_refused(folder, *words):
    with pytest.raises(ModelError) as error:
        classifier.load(folder)
    for word in (*words, str(folder)):
        assert word in str(error.value)


def change_tensors(folder, change):
    tensors = safetensors.numpy.load_file(folder / SINGLE)
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / SINGLE)


def change_config(folder, **fields):
    content = json.loads((folder / CONFIG).read_text()) | fields
    (folder / CONFIG).write_text(json.dumps(content))


def assert_bit_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# --- there and back


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trip_is_bit_equal(tmp_path, dtype):
    config = ResNetConfig("resnet8", 11, dtype="bfloat16")
    variables = variables_of(config, dtype)
    classifier.save(tmp_path / "deep" / "out", config, variables)
    found, loaded = classifier.load(tmp_path / "deep" / "out")
    assert found == config
    assert isinstance(loaded, Variables)
    assert_bit_equal(loaded, variables)


def test_predictions_of_the_loaded_are_equal(exported):
    config, variables = classifier.load(str(exported))
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(
        resnet.predict(config, variables, images),
        resnet.predict(GREY, VARIABLES, images),
    )


def test_each_dtype_is_kept(tmp_path):
    mixed = VARIABLES._replace(
        params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), VARIABLES.params)
    )
    classifier.save(tmp_path / "out", GREY, mixed)
    assert_bit_equal(classifier.load(tmp_path / "out")[1], mixed)


@pytest.mark.parametrize("name", resnet.SHAPES)
def test_every_architecture_has_names_of_its_own(name):
    config = ResNetConfig(name)
    outline = jax.eval_shape(lambda: resnet.init_variables(config, jax.random.key(0)))
    names = named(outline)
    assert len(names) == len(jax.tree.leaves(outline))
    assert {"params.head.kernel", "batch_stats.bn_stem.mean"} <= names.keys()


def test_a_head_with_one_class_more(tmp_path):
    """As boundary expanding leaves it: the names stay those of the data."""
    config = dataclasses.replace(GREY, num_classes=4)
    variables = variables_of(config)
    classifier.save(tmp_path / "out", config, variables, class_names=NAMES)
    found, loaded = classifier.load(tmp_path / "out")
    assert found.num_classes == 4
    assert_bit_equal(loaded, variables)
    assert classifier.load_config(tmp_path / "out") == (config, NAMES)


def test_folder_holds_what_files_names(exported):
    assert sorted(path.name for path in exported.iterdir()) == sorted(classifier.FILES)
    content = json.loads((exported / CONFIG).read_text())
    assert content["class_names"] == list(NAMES)
    assert (content["name"], content["mean"]) == ("resnet8", [0.3])
    shapes = {
        name: tensor.shape
        for name, tensor in safetensors.numpy.load_file(exported / SINGLE).items()
    }
    assert shapes[KERNEL] == (3, 3, 32, 32)
    assert shapes["params.head.kernel"] == (64, 3)
    assert shapes[VARIANCE] == (16,)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        classifier.save(tmp_path / "out", GREY, VARIABLES)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == {mode}


# --- folders that cannot be read


def test_absent_files(folder):
    assert_refused(folder / "nowhere", "config.json cannot be read", "No such file")
    (folder / SINGLE).unlink()
    assert_refused(folder, f"has no {SINGLE}")
    (folder / CONFIG).unlink()
    assert_refused(folder, "config.json cannot be read", "exported classifier")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe\x00", b"[" * 10**5, b"9" * 5000]
)
def test_config_that_is_not_json(folder, text):
    (folder / CONFIG).write_bytes(text)
    assert_refused(folder, "config.json is not JSON", "copy it again")


@pytest.mark.parametrize("content", [[], 3, None, {}, {"model_type": "llama"}])
def test_config_of_something_else(folder, content):
    (folder / CONFIG).write_text(json.dumps(content))
    assert_refused(folder, "'ofmu_jax.classifier'", "classifier.save wrote")


def test_fields_that_are_missing_or_unknown(folder):
    change_config(folder, depth=8)
    assert_refused(folder, "has the unknown field 'depth'", "export the model again")
    content = json.loads((folder / CONFIG).read_text())
    del content["depth"], content["std"]
    (folder / CONFIG).write_text(json.dumps(content))
    assert_refused(folder, "lacks 'std'", "export the model again")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("schema", "other", "expected a JSON object with schema"),
        ("version", 2, "is of version 2, this code reads version 1"),
        ("name", "resnet9", "'resnet9'; it must be one of resnet18, resnet50"),
        ("name", ["resnet8"], "['resnet8']; it must be one of"),
        ("num_classes", 1, "1; it must be a whole number from 2 to 1000000"),
        ("num_classes", 10**30, "000; it must be a whole number"),
        ("num_classes", 3.0, "3.0; it must be a whole number"),
        ("num_classes", True, "True; it must be a whole number"),
        ("num_classes", "3", "'3'; it must be a whole number"),
        ("mean", [], "[]; it must be a finite number for each of 1 to 1024"),
        ("mean", [0.1] * 1025, "...; it must be a finite number"),
        ("mean", [float("nan")], "[nan]; it must be"),
        ("mean", [10**400], "...; it must be a finite number"),
        ("mean", ["0.3"], "['0.3']; it must be"),
        ("mean", 0.3, "0.3; it must be"),
        ("std", [0.1, 0.1], "for each channel (1)"),
        ("std", [0], "[0]; it must be one number from 1e-6 to 1e6"),
        ("std", [float("inf")], "[inf]; it must be"),
        ("std", [True], "[True]; it must be"),
        ("std", None, "None; it must be"),
        ("dtype", "int8", "'int8'; it must be one of float32, bfloat16, float16"),
        ("dtype", {}, "{}; it must be one of"),
        ("class_names", "abc", "'abc'; it must be a list of at most 3 different"),
        ("class_names", ["a", "a"], "['a', 'a']; it must be a list"),
        ("class_names", ["a", 1], "['a', 1]; it must be a list"),
        ("class_names", ["a", "b", "c", "d"], "it must be a list of at most 3"),
    ],
)
def test_values_of_the_config(folder, field, value, words):
    change_config(folder, **{field: value})
    assert_refused(folder, CONFIG, words)


def test_missing_and_unknown_tensors(folder):
    change_tensors(folder, lambda tensors: tensors.pop(KERNEL))
    assert_refused(folder, f"lacks 1 tensors, the first is '{KERNEL}'")
    extra = {"params.head.scale": np.ones(3, np.float32)}
    change_tensors(folder, lambda tensors: tensors.update(extra))
    with pytest.raises(ModelError, match=r"unknown tensor 'params\.head\.scale'"):
        classifier.load(folder)


@pytest.mark.parametrize("change", [np.ravel, lambda x: x[:-1], lambda x: x[None]])
def test_misshapen_tensor(folder, change):
    spoil = lambda tensors: tensors.update({KERNEL: change(tensors[KERNEL]).copy()})
    change_tensors(folder, spoil)
    with pytest.raises(ModelError, match=rf"'{KERNEL}' in model.* \(3, 3, 32, 32\)"):
        classifier.load(folder)


@pytest.mark.parametrize("fields", [{"num_classes": 4}, {"name": "resnet20"}])
def test_config_of_another_model(folder, fields):
    change_config(folder, **fields)
    with pytest.raises(ModelError, match=r"config\.json"):
        classifier.load(folder)


def test_more_channels_than_the_network_has(folder):
    change_config(folder, mean=[0.1] * 2, std=[0.1] * 2)
    with pytest.raises(ModelError, match=r"conv_stem.kernel' .*\(3, 3, 2, 16\)"):
        classifier.load(folder)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (KERNEL, np.nan, "NaN or infinite"),
        (VARIANCE, np.inf, "NaN or infinite"),
        (VARIANCE, -1e-3, "entries below 0"),
    ],
)
def test_broken_weights(folder, name, value, words):
    def spoil(tensors):
        tensors[name].flat[-1] = value

    change_tensors(folder, spoil)
    with pytest.raises(ModelError, match=f"'{name}' in {SINGLE} has {words}"):
        classifier.load(folder)


def test_tensor_of_another_kind(folder):
    cast = lambda tensors: tensors.update({KERNEL: tensors[KERNEL].astype(np.float64)})
    change_tensors(folder, cast)
    assert_refused(folder, f"'{KERNEL}'", "is F64, not one of F32, F16, BF16")


@pytest.mark.parametrize("keep", [0, 4, 300, -1])
def test_truncated_safetensors(folder, keep):
    file = folder / SINGLE
    os.truncate(file, keep if keep >= 0 else file.stat().st_size + keep)
    assert_refused(folder, "is not a whole safetensors file")


# --- exports that fail


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v._replace(batch_stats={}), "bn_stem.mean has shape none"),
        (lambda v: variables_of(ResNetConfig("resnet8", 3)), "says .3, 3, 1, 16"),
        (lambda v: jax.tree.map(lambda x: x * jnp.nan, v), "has NaN or infinite"),
        (lambda v: jax.tree.map(lambda x: -x, v), "var' in .* below 0"),
        (lambda v: jax.tree.map(np.float64, v), "is float64; cast it to one of float"),
    ],
)
def test_variables_that_are_not_written(tmp_path, change, words):
    with pytest.raises(ModelError, match=words):
        classifier.save(tmp_path / "out", GREY, change(VARIABLES))
    assert list(tmp_path.iterdir()) == []


def test_configuration_that_could_not_be_read_back(tmp_path):
    for config, names, words in (
        (dataclasses.replace(GREY, dtype="float64"), (), "dtype of the given config"),
        (GREY, ("a",) * 2, "class_names of the given configuration"),
        (GREY, "abcd", "class_names of the given configuration"),
    ):
        with pytest.raises(ModelError, match=words):
            classifier.save(tmp_path / "out", config, VARIABLES, class_names=names)
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match=f"{tmp_path} exists; remove it"):
        classifier.save(tmp_path, GREY, VARIABLES)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (pathlib.Path, "write_text"),
        (tensor_writer, "write_file"),
        (tensor_writer, "_append"),
        (pathlib.Path, "replace"),
    ],
)
def test_failed_export_leaves_nothing(tmp_path, monkeypatch, owner, name):
    def fail(*args, **kwargs):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(Interrupted):
            classifier.save(tmp_path / "deep" / "out", GREY, VARIABLES)
    assert list((tmp_path / "deep").iterdir()) == []
    classifier.save(tmp_path / "deep" / "out", GREY, VARIABLES)


def test_what_an_interrupted_export_left_is_replaced(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "old.safetensors").write_text("half")
    classifier.save(tmp_path / "out", GREY, VARIABLES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    classifier.load(tmp_path / "out")
