"""Tiny random models of each family: configs, weights from a seed, inputs.

A fixture is ``<family>.json`` (the transformers config, the names and shapes of its
tensors as transformers has them, a seed) and ``<family>.npz`` (what transformers'
PyTorch model computes with these weights). `tests/parity/regenerate.py` writes both.
The weights are not stored: both sides draw them from the seed, in the order of names.
"""

import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import transformers

from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface import weights

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "models"
LENGTH, NEW_TOKENS = 10, 12

_SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # of the 4 frequencies 1 is kept, 1 is blended and 2 are stretched
    "original_max_position_embeddings": 128,
}
_PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

# model type -> the settings that make each family what it is
FAMILIES: dict[str, dict[str, Any]] = {
    "llama3": {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "rope_parameters": _LLAMA3_ROPE,
        "rms_norm_eps": 1e-5,
    },
    "llama2": {
        "model_type": "llama",
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "rope_parameters": _PLAIN_ROPE,
        "rms_norm_eps": 1e-5,
    },
    "mistral": {
        "model_type": "mistral",
        "head_dim": 12,  # not hidden_size / heads
        "sliding_window": 4,
        "tie_word_embeddings": False,
        "rope_parameters": _PLAIN_ROPE,
        "rms_norm_eps": 1e-5,
    },
    "qwen2": {
        "model_type": "qwen2",
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "qwen3": {
        "model_type": "qwen3",
        "head_dim": 16,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
}
FAMILIES = {name: _SHAPE | settings for name, settings in FAMILIES.items()}

# Settings without a fixture, compared live only.
VARIANTS: dict[str, dict[str, Any]] = {
    "llama_biases": FAMILIES["llama2"] | {"attention_bias": True, "mlp_bias": True},
    "llama_untied_head_dim": FAMILIES["llama3"]
    | {"tie_word_embeddings": False, "head_dim": 20},
    "mistral_no_window": FAMILIES["mistral"] | {"sliding_window": None},
    "qwen2_window": FAMILIES["qwen2"]
    | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0},
    "qwen3_window_bias": FAMILIES["qwen3"]
    | {
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 0,
        "attention_bias": True,
    },
}

ALL = FAMILIES | VARIANTS

# Key masks: every position; padding on the left; zeros in the interior.
MASKS = {
    "full": np.ones((2, LENGTH), np.int32),
    "left": np.array([[0] * 4 + [1] * 6, [1] * 10], np.int32),
    "interior": np.array([[1, 1, 0, 1, 1, 1, 0, 0, 1, 1], [0] + [1] * 8 + [0]]),
}


def input_ids() -> np.ndarray:
    """Tokens of shape (2, LENGTH); none is special."""
    return np.random.default_rng(7).integers(3, 61, (2, LENGTH)).astype(np.int32)


def random_tensors(
    shapes: dict[str, tuple[int, ...]], seed: int
) -> dict[str, np.ndarray]:
    """Weights drawn in the order of names; norm scales lie around 1."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name in sorted(shapes):
        draw = rng.standard_normal(shapes[name])
        if name.endswith("norm.weight"):
            draw = 1 + 0.2 * draw
        elif name.endswith(".bias"):
            draw *= 0.3
        elif "embed_tokens" not in name:
            draw *= 1.5 * shapes[name][-1] ** -0.5
        tensors[name] = draw.astype(np.float32)
    return tensors


def load_fixture(family: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a family."""
    with np.load(FIXTURES / f"{family}.npz") as arrays:
        return json.loads((FIXTURES / f"{family}.json").read_text()), dict(arrays)


def hf_config(name: str) -> Any:
    """The transformers config of a family or variant."""
    settings = dict(ALL[name])
    return transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)


def tensors_of(name: str, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Random weights of a family or variant, by the names and shapes that we expect."""
    config = huggingface.config_from_hf(hf_config(name))
    tensors = random_tensors(dict(weights.tensor_shapes(config)), seed=1)
    return {k: v.astype(jnp.dtype(dtype)) for k, v in tensors.items()}


def write(
    folder: pathlib.Path, config: dict, tensors: dict[str, np.ndarray], **shards
) -> pathlib.Path:
    """A Hugging Face folder: one file, or one for each ``stem=names`` and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    form = {"format": "pt"}
    if not shards:
        safetensors.numpy.save_file(tensors, folder / weights.SINGLE, form)
        return folder
    weight_map = {}
    for stem, names in shards.items():
        part = {name: tensors[name] for name in names}
        safetensors.numpy.save_file(part, folder / f"{stem}.safetensors", form)
        weight_map |= dict.fromkeys(names, f"{stem}.safetensors")
    (folder / weights.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def write_golden(folder: pathlib.Path, described: dict[str, Any]) -> pathlib.Path:
    """The folder that a fixture describes, by the names that transformers has."""
    shapes = {name: tuple(shape) for name, shape in described["shapes"].items()}
    tensors = random_tensors(shapes, described["seed"])
    return write(folder, described["config"], tensors)


def read_all(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of all safetensors files of a folder."""
    tensors: dict[str, np.ndarray] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= safetensors.numpy.load_file(file)
    return tensors


def visible(mask: np.ndarray) -> np.ndarray:
    """Where a query sees a key: elsewhere logits mean nothing."""
    return np.cumsum(mask, axis=-1) > 0
