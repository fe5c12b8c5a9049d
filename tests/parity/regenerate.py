"""Writes tests/fixtures/models anew from transformers' PyTorch models.

Run ``python tests/parity/regenerate.py`` in an environment with PyTorch, after a
deliberate change of `model_families`; say in CHANGELOG.md why the values changed.
"""

import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from model_families import FAMILIES, FIXTURES, MASKS, input_ids  # noqa: E402

import torch_models  # noqa: E402  isort: skip

MIN_LEAD = 0.01  # of the best logit; rounding is a thousand times smaller
MAX_SEED = 100


def make(family: str) -> None:
    """Writes the two files of a family, with the first seed whose choices are clear."""
    config = FAMILIES[family]
    ids = input_ids()
    for seed in range(MAX_SEED):
        model, shapes = torch_models.build(config, seed)
        free, lead = torch_models.generate(model, ids, MASKS["left"], ())
        if lead > MIN_LEAD and len(np.unique(free)) > 8:
            break
    else:
        raise RuntimeError(f"{family}: no seed below {MAX_SEED} has clear choices.")
    # The rows end at different steps, one by each of two end-of-sequence tokens.
    ends = (int(free[0, 3]), int(free[1, 7]))
    arrays = {
        f"logits_{name}": torch_models.logits(model, ids, mask)
        for name, mask in MASKS.items()
    }
    # Unseen positions differ between attention kernels: not part of the promise.
    for name, mask in MASKS.items():
        arrays[f"logits_{name}"][np.cumsum(mask, -1) == 0] = 0
    arrays["generated_free"] = free
    arrays["generated"], _ = torch_models.generate(model, ids, MASKS["left"], ends)
    arrays["eos_token_ids"] = np.asarray(ends, np.int32)
    description = {"seed": seed, "config": config, "shapes": shapes}
    FIXTURES.mkdir(parents=True, exist_ok=True)
    text = json.dumps(description, indent=1)
    (FIXTURES / f"{family}.json").write_text(text + "\n")
    np.savez_compressed(FIXTURES / f"{family}.npz", **arrays)
    print(f"{family}: seed {seed}, smallest lead {lead:.3f}")


if __name__ == "__main__":
    for name in FAMILIES:
        make(name)
