"""Architectures by name, or from a config.json: no weights and no network."""

import json
import pathlib

import transformers

from ofmu_jax.models.huggingface.config import config_from_hf
from ofmu_jax.models.huggingface.weights import ModelError
from ofmu_jax.models.llama.config import LlamaConfig, RopeScaling


def _llama3(
    hidden: int, feed_forward: int, layers: int, heads: int, *, tied: bool, factor=8.0
) -> LlamaConfig:
    return LlamaConfig(
        128256,
        hidden,
        feed_forward,
        layers,
        heads,
        8,
        hidden // heads,
        rope_theta=5e5,
        rope_scaling=RopeScaling(factor),
        tie_word_embeddings=tied,
        max_position_embeddings=131072,
    )


def _smollm2(
    hidden: int, feed_forward: int, layers: int, heads: int, groups: int, theta: float
) -> LlamaConfig:
    return LlamaConfig(
        49152,
        hidden,
        feed_forward,
        layers,
        heads,
        groups,
        64,
        rope_theta=theta,
        max_position_embeddings=8192,
    )


# Sizes as published in the models' config.json.
ARCHITECTURES: dict[str, LlamaConfig] = {
    "smollm2-135m": _smollm2(576, 1536, 30, 9, 3, 1e5),
    "smollm2-360m": _smollm2(960, 2560, 32, 15, 5, 1e5),
    "smollm2-1.7b": _smollm2(2048, 8192, 24, 32, 32, 130000),
    "llama-3.2-1b": _llama3(2048, 8192, 16, 32, tied=True, factor=32.0),
    "llama-3.2-3b": _llama3(3072, 8192, 28, 24, tied=True, factor=32.0),
    "llama-3.1-8b": _llama3(4096, 14336, 32, 32, tied=False),
    "llama-3.1-70b": _llama3(8192, 28672, 80, 64, tied=False),
    "llama-2-7b": LlamaConfig(tie_word_embeddings=False),
    "llama-2-13b": LlamaConfig(
        32000, 5120, 13824, 40, 40, 40, 128, tie_word_embeddings=False
    ),
    "llama-2-70b": LlamaConfig(
        32000, 8192, 28672, 80, 64, 8, 128, tie_word_embeddings=False
    ),
    "mistral-7b": LlamaConfig(
        32000,
        4096,
        14336,
        32,
        32,
        8,
        128,
        tie_word_embeddings=False,
        sliding_window=4096,
        max_position_embeddings=32768,
    ),
}


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
