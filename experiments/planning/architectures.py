"""Architectures by name, or from a config.json: no weights and no network."""

import json
import pathlib
import tomllib
from importlib import resources
from typing import Any

import transformers

from ofmu_jax.models.huggingface.config import config_from_hf
from ofmu_jax.models.huggingface.weights import ModelError
from ofmu_jax.models.llama.config import LlamaConfig, RopeScaling


def _config(*, rope_scaling: dict[str, Any] | None = None, **fields) -> LlamaConfig:
    scaling = None if rope_scaling is None else RopeScaling(**rope_scaling)
    return LlamaConfig(rope_scaling=scaling, **fields)


_FILE = resources.files("experiments.planning").joinpath("architectures.toml")
_KNOWN = tomllib.loads(_FILE.read_text(encoding="utf-8"))
ARCHITECTURES = {name: _config(**fields) for name, fields in _KNOWN.items()}


def architecture(name: str) -> LlamaConfig:
    """The architecture of a name in `ARCHITECTURES`, a folder, or a config.json.

    Raises:
      ModelError: if it is none of them, or a model that is not supported.
    """
    if name.lower() in ARCHITECTURES:
        return ARCHITECTURES[name.lower()]
    path = pathlib.Path(name)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ModelError(
            f"--model {name!r} is no folder with a config.json and no known name; "
            f"known are {', '.join(ARCHITECTURES)}."
        )
    try:
        content = json.loads(path.read_text())
        kind = content.pop("model_type")
        hf_config = transformers.AutoConfig.for_model(kind, **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no config of a model: {error!r}.") from error
    return config_from_hf(hf_config)
