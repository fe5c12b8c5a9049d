"""A given model folder with other weights: what is said of it, and its export."""

import functools
import pathlib
from collections.abc import Iterable
from typing import Any

import jax

from experiments.domains.base import REFERENCE, TARGET, Model, Origin
from experiments.domains.language.task import LanguageTask, Params
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.huggingface.readers import problems_in_4
from ofmu_jax.models.huggingface.rounding import rounded
from ofmu_jax.models.llama.adapters import Merged, merging
from ofmu_jax.parallel import distributed

SCORED = "as written"  # what came before scored models that were not rounded yet
_TRAINED = {
    TARGET: "trained, also on the rows that are to be forgotten",
    REFERENCE: "trained without the rows that are to be forgotten",
}  # role -> what was done; others are methods
_CARRIED = ("license", "license_name", "license_link", "language", "base_model")
_CARRIED += ("pipeline_tag",)
_PROGRAM = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or the name of its repository
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)"""


def export(task: LanguageTask, folder: pathlib.Path, model: Model) -> None:
    """The export of a model: of a given one with its own files, card included."""
    write(task, folder, model.params, model.record.get("source"))


def origin(source: str | None, quantized: bool, model: Model) -> Origin:
    """What the card of an export says of where it comes from.

    Args:
      source: the given model whose files exports have; None: trained from scratch.
      quantized: given models were rounded to NF4.
    """
    given = model.record.get("source")
    what = _TRAINED.get(model.role, f"changed by {model.name} to forget rows")
    if given is not None:
        what = "rounded to NF4, 4 bits an entry, and written dense" if quantized else ""
    base, found, text = None, {}, ""
    if place := given or source:
        found, text = huggingface.read_card(place)
        base = name_on_hub(place) or _titled(found) or pathlib.Path(place).name
    metadata = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    return Origin(base, metadata | carried(place or None, found), text, what, _PROGRAM)


def carried(source: str | None, metadata: dict[str, Any]) -> dict[str, Any]:
    """What of a given model's metadata holds for what is made of it: its terms, its
    languages and its name, and not its results or its examples."""
    kept = lambda name: name in _CARRIED or str(name).startswith("extra_gated_")
    found = {k: v for k, v in metadata.items() if kept(k) and v is not None}
    named = None if source is None else name_on_hub(source)
    return found if named is None else found | {"base_model": named}


def _titled(metadata: dict[str, Any]) -> str | None:
    """What a card calls its model."""
    match metadata.get("model-index"):
        case [{"name": str(name)}, *_]:
            return name
    return None


def name_on_hub(source: str) -> str | None:
    """The name of a given model; None for a folder of this machine."""
    return None if pathlib.Path(source).is_dir() else source


def write(
    task: LanguageTask,
    folder: pathlib.Path,
    params: Params,
    source: str | None = None,
) -> None:
    """Writes a Hugging Face folder: config, tokenizer, safetensors. A given model's
    card comes with it, as it was.

    What is in NF4, or has adapters beside it, is written as the dense weights that it
    stands for, in float32: half of that would round adapters away.

    Args:
      source: the given model whose other files it has; default: the task's.
    """
    source = source or task.source
    tokenizer = task.tokenizer if source is None else None
    card = None if source is None else ""
    save = functools.partial(huggingface.save_pretrained, source=source, card=card)
    if not any(isinstance(x, Merged) for x in jax.tree.leaves(merging(params))):
        save(folder, params, task.config, tokenizer)
        return
    dense = merging(distributed.to_host(params))  # small: in NF4, or on one device
    distributed.on_main(
        lambda: save(folder, dense, task.config, tokenizer, dtype="float32")
    )


def written(task: LanguageTask, params: Params) -> Params:
    """Parameters as `export` writes them: rounded where the given files are."""
    if task.source is None:
        return params
    return rounded(params, task.config, huggingface.locate(task.source))


def rounding(task: LanguageTask) -> list[str]:
    """A note where `written` rounds."""
    if task.source is None:
        return []
    found = weights.dtypes(huggingface.locate(task.source), task.config)
    kinds = [name for name in found if name != "float32"]
    if not kinds:
        return []
    part = " in part" if "float32" in found else ""
    return [
        f"The given files are {' and '.join(kinds)}{part}: trained parameters are "
        "rounded to that, and then scored and written."
    ]


def limits(sources: Iterable[str]) -> list[str]:
    """Notes on what of the given folders exports will not have, and on who reads them.

    Raises:
      ModelError: a file that a model is read from cannot be copied.
    """
    found = {source: huggingface.left_out(source) for source in sources}
    notes = [
        f"exports have the files of {source}, but not {', '.join(names)}: other "
        "weights, code, or nothing that a model is read from."
        for source, names in found.items()
        if names
    ]
    for source in found:
        problems = problems_in_4(huggingface.locate(source))
        notes += [f"{source} and its exports: {problem}." for problem in problems]
    return notes
