"""The task of a run, and the models that it was given."""

import dataclasses
from typing import Any

from experiments.config.language import LanguageRun
from experiments.domains.base import BASE, REFERENCE, TARGET
from experiments.domains.language import adapters, vocabulary
from experiments.domains.language import mesh as meshes
from experiments.domains.language.task import LanguageTask
from ofmu_jax.data.language.records import UnlearningData
from ofmu_jax.models.huggingface import folder as huggingface
from ofmu_jax.unlearning.language.prompt_format import format_of

Params = Any
FIELDS = {TARGET: "model", REFERENCE: "retain_model", BASE: "base_model"}
ROLES = {field: role for role, field in FIELDS.items()}


def make_task(
    run: LanguageRun, data: UnlearningData
) -> tuple[LanguageTask, dict[str, Params]]:
    """The task of a run, and the parameters that were given, by role.

    Raises:
      ValueError: if two given models differ in architecture or in their tokens.
    """
    given: dict[str, Params] = {}
    mesh = meshes.mesh_of(run)
    config = source = None
    stops: tuple[int, ...] = ()
    for field, name in run.given_models.items():
        found, given[ROLES[field]] = adapters.load(run, name, mesh)
        found = dataclasses.replace(found, **run.computation)
        if config is not None:  # how random weights are drawn is of no matter
            drawn = config.initializer_range
            found = dataclasses.replace(found, initializer_range=drawn)
        if config is not None and found != config:
            differ = ", ".join(
                f"{key} {value} and {getattr(config, key)}"
                for key, value in vars(found).items()
                if value != getattr(config, key)
            )
            raise ValueError(
                f"--{field.replace('_', '-')} {name} has another architecture than "
                f"{source}: {differ}; give models of one family and size."
            )
        config, source = found, source or name
    if config is None or source is None:
        tokenizer, config = vocabulary.from_scratch(run, data)
    else:
        tokenizer = vocabulary.given_tokenizer(run, data)
        stops = huggingface.load_stop_ids(source)
    task = LanguageTask(
        config,
        tokenizer,
        format_of(run.prompt_format, data, tokenizer),
        min(run.max_length, config.max_position_embeddings),
        run.evaluation,
        source,
        mesh,
        run.loss_chunk,
        stops,
        run.lora.base == "nf4",
    )
    if task.pad_id >= config.vocab_size:
        raise ValueError(
            f"the tokenizer of {source} pads with token id {task.pad_id}, and the "
            f"model has only {config.vocab_size} embeddings; give the tokenizer that "
            "belongs to the model."
        )
    return task, given
