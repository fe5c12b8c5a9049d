"""Low-rank adapters in the format of PEFT, to be loaded beside the model they are of.

As peft 0.21 writes and reads them: adapter_config.json, and the factors of every matrix
in adapter_model.safetensors.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.llama.adapters import Adapter
from ofmu_jax.models.llama.model import LlamaConfig
from ofmu_jax.models.tensor_files import new_folder
from ofmu_jax.models.tensor_writer import write_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."


def save_adapter(
    folder: str | pathlib.Path,
    adapters: Any,
    config: LlamaConfig,
    *,
    alpha: float,
    base: str,
    card: str | None = None,
) -> None:
    """Writes a folder for ``peft.PeftModel.from_pretrained(model, folder)``.

    Args:
      folder: must not exist yet; it appears whole or not at all.
      adapters: of kernels, as `ofmu_jax.methods.Lora.split` makes them.
      config: the architecture of the model.
      alpha: α; a product A B counts α / r times.
      base: ``base_model_name_or_path``.
      card: what README.md says; None: there is none.

    Raises:
      FileExistsError: if the folder exists.
      ModelError: an adapter that is not finite.
      OSError: if there is no room; nothing is left then.
    """
    tensors = dict(_tensors(adapters, config))
    ranks = {len(x) for name, x in tensors.items() if ".lora_A." in name}
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": ranks.pop(),
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    with new_folder(pathlib.Path(folder)) as partial:
        (partial / CONFIG).write_text(json.dumps(content, indent=2) + "\n")
        write_tensors(partial / WEIGHTS, tensors)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")


def _tensors(adapters: Any, config: LlamaConfig) -> Iterator[tuple[str, np.ndarray]]:
    """PEFT's names and its layout: lora_A is (r, in) and lora_B is (out, r)."""
    flat: Any = flatten_dict(adapters)
    for name, (path, layer, _) in weights.places(config).items():
        adapter = flat[path] if path in flat else None
        if not isinstance(adapter, Adapter):
            continue
        module = _PREFIX + name.removesuffix(".weight")
        for kind, factor in zip("AB", adapter, strict=True):
            name = f"{module}.lora_{kind}.weight"
            yield name, np.ascontiguousarray(factor[layer].T)
