"""Folders of image classifiers: ``config.json`` and ``model.safetensors``.

The tensors are the leaves of `resnet.Variables` under their dotted names, as in
``params.stage0_block0.conv1.kernel`` and ``batch_stats.bn_stem.mean``: kernels are
(height, width, inputs, outputs), the head's (inputs, classes). They come back bit for
bit; the configuration is all that `resnet.predict` needs beside them.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ofmu_jax._trees import named
from ofmu_jax.models import tensor_files, tensor_writer
from ofmu_jax.models.resnet import SHAPES, ResNetConfig, Variables, init_variables
from ofmu_jax.models.tensor_files import SINGLE, ModelError

SCHEMA = "ofmu_jax.classifier"
VERSION = 1
CONFIG = "config.json"
FILES = (CONFIG, SINGLE)  # what a model is read from
_DTYPES = ("float32", "bfloat16", "float16")  # of the computation
_MAX_CLASSES = 10**6
_MAX_CHANNELS = 1024


def save(
    folder: str | pathlib.Path,
    config: ResNetConfig,
    variables: Variables,
    *,
    class_names: Sequence[str] = (),
) -> None:
    """Writes a folder that `load` reads; it appears whole or not at all.

    Args:
      folder: must not exist yet.
      config: the architecture, with the number of classes of this head.
      variables: parameters and running averages, each in the dtype to be kept.
      class_names: of the classes 0, 1, …; a head may have classes beyond them.

    Raises:
      FileExistsError: if the folder exists.
      ModelError: if the variables are not those of ``config`` or not finite, or the
        folder could not be read back.
    """
    content = {
        "schema": SCHEMA,
        "version": VERSION,
        **dataclasses.asdict(config),
        "class_names": list(class_names),
    }
    _check(content, "the given configuration")
    tensor_files.check_shapes(variables, _outline(config))
    tensors = {
        name: np.asarray(jax.device_get(value))
        for name, value in named(variables).items()
    }
    for name, tensor in tensors.items():
        if tensor.dtype.name not in _DTYPES:
            raise ModelError(
                f"{name!r} is {tensor.dtype}; cast it to one of {', '.join(_DTYPES)}."
            )
        _check_variance(name, tensor, "the given variables")
    with tensor_files.new_folder(pathlib.Path(folder)) as partial:
        text = json.dumps(content, indent=1) + "\n"
        (partial / CONFIG).write_text(text, encoding="utf-8")
        tensor_writer.write_tensors(partial / SINGLE, tensors)


def load(folder: str | pathlib.Path) -> tuple[ResNetConfig, Variables]:
    """Architecture and variables of a folder that `save` wrote.

    Raises:
      ModelError: a file that is absent, damaged or of something else; a missing,
        unknown, misshapen or non-finite tensor.
    """
    config, _ = load_config(folder)
    folder = pathlib.Path(folder)
    outline = _outline(config)
    shapes = {name: leaf.shape for name, leaf in named(outline).items()}
    tensors: dict[str, np.ndarray] = {}
    infos = tensor_files.read_headers(folder)
    for name, tensor, file in tensor_files.checked_tensors(folder, shapes, infos):
        _check_variance(name, tensor, file)
        tensors[name] = tensor
    leaves = [jnp.asarray(tensors[name]) for name in shapes]  # in the tree's order
    return config, jax.tree.unflatten(jax.tree.structure(outline), leaves)


def load_config(folder: str | pathlib.Path) -> tuple[ResNetConfig, tuple[str, ...]]:
    """Architecture and class names of a folder that `save` wrote.

    Raises:
      ModelError: no ``config.json``, or one that `save` did not write.
    """
    path = pathlib.Path(folder) / CONFIG
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); give the folder of an exported "
            "classifier."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error}); copy it again.") from error
    return _check(content, str(path))


def is_folder(folder: str | pathlib.Path) -> bool:
    """Whether a folder's ``config.json`` says that `save` wrote it."""
    try:
        content = json.loads((pathlib.Path(folder) / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("schema") == SCHEMA


def _outline(config: ResNetConfig) -> Variables:
    return jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))


def _check_variance(name: str, tensor: np.ndarray, where: str) -> None:
    if name.startswith("batch_stats.") and name.endswith(".var") and tensor.min() < 0:
        raise ModelError(
            f"{name!r} in {where} has entries below 0, which no variance has; the "
            "model was broken before it was saved, give an earlier checkpoint."
        )


def _check(content: Any, where: str) -> tuple[ResNetConfig, tuple[str, ...]]:
    """The configuration and class names of a ``config.json``, each value checked."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ModelError(
            f"{where} is not of an image classifier: expected a JSON object with "
            f"schema {SCHEMA!r}; give a folder that classifier.save wrote."
        )
    if content.get("version") != VERSION:
        raise ModelError(
            f"{where} is of version {content.get('version')!r}, this code reads "
            f"version {VERSION}; export the model again."
        )
    fields = [field.name for field in dataclasses.fields(ResNetConfig)]
    wanted = {"schema", "version", "class_names", *fields}
    if wrong := sorted(wanted ^ content.keys()):
        what = "lacks" if wrong[0] in wanted else "has the unknown field"
        raise ModelError(f"{where} {what} {wrong[0]!r}; export the model again.")
    for field, right, remedy in _rules(content):
        if not right:
            value = repr(content[field])
            value = value if len(value) <= 80 else value[:77] + "..."
            raise ModelError(f"{field} of {where} is {value}; it must be {remedy}.")
    made = {name: content[name] for name in fields}
    for name in ("mean", "std"):
        made[name] = tuple(float(x) for x in content[name])
    return ResNetConfig(**made), tuple(content["class_names"])


def _rules(content: dict[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """(field, whether its value is right, what it must be); each relies on the last."""
    yield "name", content["name"] in list(SHAPES), f"one of {', '.join(SHAPES)}"
    classes = content["num_classes"]
    right = type(classes) is int and 2 <= classes <= _MAX_CLASSES
    yield "num_classes", right, f"a whole number from 2 to {_MAX_CLASSES}"
    right = 1 <= _count(content["mean"], -1e6) <= _MAX_CHANNELS
    yield "mean", right, f"a finite number for each of 1 to {_MAX_CHANNELS} channels"
    channels = len(content["mean"])
    right = _count(content["std"], 1e-6) == channels
    yield "std", right, f"one number from 1e-6 to 1e6 for each channel ({channels})"
    yield "dtype", content["dtype"] in _DTYPES, f"one of {', '.join(_DTYPES)}"
    names = content["class_names"]
    right = isinstance(names, list) and all(isinstance(name, str) for name in names)
    right = right and len(names) == len(set(names)) <= classes
    yield "class_names", right, f"a list of at most {classes} different names"


def _count(values: Any, low: float) -> int:
    """How many numbers from ``low`` to a million; 0 if it holds anything else."""
    if not isinstance(values, list | tuple):
        return 0
    number = lambda x: isinstance(x, int | float) and not isinstance(x, bool)
    return len(values) if all(number(x) and low <= x <= 1e6 for x in values) else 0
