"""Adapters that stay beside the weights: a given model in NF4, exports for PEFT.

What is trained, kept, scored and exported is then the given model with its adapters,
and never a dense one: it may be larger than the device.
"""

import pathlib
from typing import Any

import jax
from huggingface_hub import ModelCardData

from experiments.config.language import LanguageRun
from experiments.domains.base import Model
from experiments.domains.language import handed_back
from experiments.domains.language import mesh as meshes
from experiments.domains.language.method import part_of
from experiments.domains.language.task import LanguageTask, Params
from ofmu_jax.methods import Part, Unmerged
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface.peft import save_adapter
from ofmu_jax.models.llama import nf4
from ofmu_jax.models.llama.adapters import beside
from ofmu_jax.models.llama.model import LlamaConfig
from ofmu_jax.parallel import distributed, sharding
from ofmu_jax.version import __version__

FOLDER = "adapter"  # within an export
_CARD = """LoRA adapters that make {} forget rows, by {}: deletion.json in the folder
above says how. They were trained and scored beside {}.
Written by ofmu_jax {}.
"""
_BASES = {
    "full": "its weights as they are",
    "nf4": """its projections in NF4, as bitsandbytes
makes them (load_in_4bit, bnb_4bit_quant_type="nf4", no double quantisation); beside
the weights themselves answers are others""",
}


def unmerged(run: LanguageRun) -> Unmerged | None:
    """The part of a run whose adapters stay beside the weights."""
    part = part_of(run)
    return part if isinstance(part, Unmerged) else None


def check(run: LanguageRun) -> None:
    """Raises ValueError where there is nothing that they could stay beside."""
    lora = run.lora
    if unmerged(run) is not None:
        option = "export-adapter" if lora.base == "full" else f"base {lora.base}"
        if run.model is None:
            raise ValueError(
                f"--lora.{option} is of a model that is there: give --model, the "
                "folder or hub name of the target."
            )
        if run.base_model is not None:
            raise ValueError(
                f"--lora.{option} and --base-model {run.base_model} exclude each "
                "other: models are trained from it in full; give --retain-model to "
                "compare with, or leave it out."
            )
    for name in run.methods if lora.dtype == "bfloat16" else ():
        for problem in run.specs[name].unfit(run.config_of(name), lora.dtype):
            raise ValueError(problem.replace("--dtype", "--lora.dtype"))


def load(
    run: LanguageRun, name: str, mesh: jax.sharding.Mesh | None
) -> tuple[LlamaConfig, Params]:
    """Architecture and parameters of a given model, in the form that the run keeps.

    In NF4 what is not quantised has the dtype of the files.

    Raises:
      ValueError: a model that cannot be read, or blocks that do not divide it.
    """
    if run.lora.base == "full":
        return huggingface.load_pretrained(name, "float32", mesh)
    with meshes.on_host():
        config, params = huggingface.load_pretrained(name)
        try:
            params = nf4.quantized(params)
        except ValueError as error:
            raise ValueError(
                f"--lora.base nf4: {name}: {error} Leave it out."
            ) from None
    if mesh is None:
        return config, jax.device_put(params, jax.devices()[0])
    return config, sharding.place(params, mesh)


def notes(run: LanguageRun) -> list[str]:
    """What the models are that are scored and written."""
    if unmerged(run) is None:
        return []
    found = ["Adapters are merged in exports alone, which are float32 for their sake."]
    if run.lora.base == "nf4":
        found.append(
            "The projections of given models are in NF4, 4 bits an entry: those models "
            "are changed, scored and, in float32, written."
        )
    return found


def outline(task: LanguageTask, part: Part) -> Any:
    """Shapes of the adapters, and where they lie if there is a mesh."""
    shapes = jax.eval_shape(part.split, task.outline())[0]
    return shapes if task.mesh is None else sharding.outline(shapes, task.mesh)


def export(
    run: LanguageRun, task: LanguageTask, folder: pathlib.Path, model: Model
) -> None:
    """Writes the adapter of an unlearned model into its export."""
    part = unmerged(run)
    assert part is not None and run.model is not None
    adapters = distributed.to_host(beside(model.params, part.scale))
    path = pathlib.Path(run.model)
    base = path.name if path.is_dir() else run.model  # a place of this machine is not
    text = _CARD.format(base, model.name, _BASES[run.lora.base], __version__)
    terms = handed_back.carried(run.model, huggingface.read_card(run.model)[0])
    card = f"---\n{ModelCardData(library_name='peft', **terms)}\n---\n\n{text}"
    distributed.on_main(
        lambda: save_adapter(
            folder / FOLDER,
            adapters,
            task.config,
            alpha=part.alpha,
            base=base,
            card=card,
        )
    )
