"""A given model folder with other weights: what is said of it, and its export."""

import functools
import pathlib
from collections.abc import Iterable

import jax

from experiments.domains.base import REFERENCE, TARGET, Model
from experiments.domains.language.task import LanguageTask, Params
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.models.huggingface import weights
from ofmu_jax.models.huggingface.readers import problems_in_4
from ofmu_jax.models.huggingface.rounding import rounded
from ofmu_jax.models.llama.adapters import Merged, merging
from ofmu_jax.parallel import distributed
from ofmu_jax.version import __version__

SCORED = "as written"  # what came before scored models that were not rounded yet
_WHAT = {
    TARGET: "trained further, also on the rows that are to be forgotten",
    REFERENCE: "trained further, without the rows that are to be forgotten",
}  # role -> what was done; others are methods
_CARD = """The weights are not those of the model that is described here: they were
{}. All other files are unchanged. Written by ofmu_jax {}."""


def export(task: LanguageTask, folder: pathlib.Path, model: Model) -> None:
    """The export of a model: of a given one with its own files, card included."""
    if (given := model.record.get("source")) is not None:
        quantized = "rounded to NF4, 4 bits an entry, and written dense"
        card = _CARD.format(quantized, __version__) if task.quantized else ""
        write(task, folder, model.params, given, card=card)
    elif task.source is None:
        write(task, folder, model.params)
    else:
        method = f"changed by {model.name} to forget rows; deletion.json says how"
        what = _WHAT.get(model.role, method)
        write(task, folder, model.params, card=_CARD.format(what, __version__))


def write(
    task: LanguageTask,
    folder: pathlib.Path,
    params: Params,
    source: str | None = None,
    card: str | None = None,
) -> None:
    """Writes a Hugging Face folder: config, tokenizer, safetensors.

    What is in NF4, or has adapters beside it, is written as the dense weights that it
    stands for, in float32: half of that would round adapters away.

    Args:
      source: the given model whose other files it has; default: the task's.
      card: what its README.md says first.
    """
    source = source or task.source
    tokenizer = task.tokenizer if source is None else None
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
