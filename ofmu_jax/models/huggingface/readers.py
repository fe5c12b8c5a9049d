"""Which versions of transformers read a folder as it is meant."""

import json
import pathlib
from typing import Any

import transformers

from ofmu_jax.models.huggingface.fresh import ONLY_5

# `make parity` loads every kind of export with these, to the same logits and tokens.
TESTED = ("4.51.3", "5.24.0")
INSTALLED = transformers.__version__


def problems_in_4(folder: pathlib.Path) -> list[str]:
    """Why transformers 4 cannot read a folder, or reads another model from it.

    What is written anew has no such problem; a folder that was given may.
    """
    config, tokenizer = (
        _object(folder / name) for name in ("config.json", "tokenizer_config.json")
    )
    found = []
    rope = config.get("rope_parameters") or {}
    theta = rope.get("rope_theta")
    if theta is not None and config.get("rope_theta", 10000.0) != theta:
        found.append(
            f"config.json has its rotary base ({theta}) in rope_parameters alone, "
            "which transformers 4 does not look at"
        )
    scaled = rope.get("rope_type", "default") != "default"
    if scaled and not config.get("rope_scaling"):
        found.append(
            f"config.json has its rotary scaling ({rope['rope_type']}) in "
            "rope_parameters alone, which transformers 4 does not look at"
        )
    if (name := tokenizer.get("tokenizer_class")) in ONLY_5:
        found.append(
            f"tokenizer_config.json asks for the class {name}, which transformers 4 "
            "does not have"
        )
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        found.append(
            "tokenizer_config.json has a list of extra_special_tokens, where "
            "transformers 4 takes an object"
        )
    return found


def _object(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
