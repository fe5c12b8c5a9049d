"""Writes tests/fixtures/models anew from transformers' PyTorch models.

Run ``python tests/parity/regenerate.py`` in an environment with PyTorch, after a
deliberate change of `model_families`; say in CHANGELOG.md why the values changed.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "toys"))

import torch_models
from model_families import FAMILIES, FIXTURES, MASKS, input_ids


def compute(family: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a family, as a fixture stores them."""
    config, ids = FAMILIES[family], input_ids()
    model, shapes, seed = torch_models.build_decided(config)
    arrays = {
        f"logits_{name}": torch_models.logits(model, ids, mask)
        for name, mask in MASKS.items()
    }
    # Unseen positions differ between attention kernels: not part of the promise.
    for name, mask in MASKS.items():
        arrays[f"logits_{name}"][np.cumsum(mask, -1) == 0] = 0
    free, _ = torch_models.generate(model, ids, MASKS["left"], ())
    ends = torch_models.end_tokens(free)
    arrays["generated_free"] = free
    arrays["generated"], _ = torch_models.generate(model, ids, MASKS["left"], ends)
    arrays["eos_token_ids"] = np.asarray(ends, np.int32)
    return {"seed": seed, "config": config, "shapes": shapes}, arrays


def main() -> None:
    """Writes the two files of every family."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        description, arrays = compute(family)
        text = json.dumps(description, indent=1)
        (FIXTURES / f"{family}.json").write_text(text + "\n")
        np.savez_compressed(FIXTURES / f"{family}.npz", **arrays)
        print(f"{family}: seed {description['seed']}")


if __name__ == "__main__":
    main()
