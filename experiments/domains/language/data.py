"""The rows of a language run, as its command says."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from experiments.config.language import Choices, Demo, LanguageRun, Request, Tofu
from experiments.config.sequence import files_of
from experiments.domains.language.task import LanguageTask
from experiments.shell import console
from ofmu_jax.data.language.fictitious import fictitious_people
from ofmu_jax.data.language.kinds import documents
from ofmu_jax.data.language.kinds.choices import load_choices
from ofmu_jax.data.language.records import QA, DataError, UnlearningData
from ofmu_jax.data.language.requests import entangled
from ofmu_jax.data.language.rows.hub import label
from ofmu_jax.data.language.rows.source import check_asked
from ofmu_jax.data.language.tofu import load_custom, load_tofu
from ofmu_jax.data.order import evenly_spaced

# The sets that an evaluation reads, and those of a request with adjacent rows.
EVALUATED = (
    "forget_eval",
    "retain_eval",
    "real_authors",
    "world_facts",
    "forget_heldout",
    "retain_heldout",
    "holdout",
)
ADJACENT = ("adjacent_eval", "adjacent_heldout")


def evaluated_sets(data: UnlearningData) -> tuple[str, ...]:
    """Fields of the data that an evaluation reads."""
    return EVALUATED + ADJACENT if data.adjacent_eval else EVALUATED


def load_data(run: LanguageRun) -> tuple[UnlearningData, str]:
    """The data of a run and the title of its report.

    Raises:
      DataError: malformed or missing files; the message names row and reason.
    """
    match run:
        case Demo():
            data = fictitious_people(run.data_seed, run.people, run.forget_people)
            data = entangled.entangle(data, run.request)
            title = _title(run)
        case Tofu():
            data = load_tofu(
                run.split,
                run.data_dir,
                allow_overlap=run.allow_overlap,
                max_retain=run.max_retain,
                holdout_from_rest=run.model is None,
            )
            title = f"TOFU {run.split}{entangled.in_words(run.request)}"
            scratch = run.model is None and run.base_model is None
            if run.general_knowledge and scratch:
                data = with_general_knowledge(data)
            data = entangled.entangle(data, run.request)
            data = _with_pretraining(data, run.pretrain_epochs, scratch)
        case Choices():
            if run.forgotten_files:
                raise ValueError(
                    "--forgotten-files, and several --forget-file or a folder of them, "
                    "are for request; give choices one file, with all rows to forget."
                )
            data = load_choices(
                run.forget_file,
                run.retain_file,
                run.eval_file,
                forget_corpus=run.forget_corpus,
                retain_corpus=run.retain_corpus,
                holdout_file=run.holdout_file,
                adjacent_file=run.adjacent_file,
                style=run.style,
                subject=run.subject,
                columns=run.columns,
                allow_overlap=run.allow_overlap,
            )
            title = f"Multiple choice {label(run.forget_file)}"
        case Request():
            forget_file, *others = files_of(run)
            if others:
                raise ValueError(
                    f"--forget-file {run.forget_file} has {1 + len(others)} requests, "
                    "and they are taken one after another by run request alone; give "
                    "one file."
                )
            data = load_custom(
                forget_file,
                run.retain_file,
                holdout_file=run.holdout_file,
                adjacent_file=run.adjacent_file,
                forgotten_files=run.forgotten_files,
                columns=run.columns,
                allow_overlap=run.allow_overlap,
            )
            title = f"Deletion request {label(forget_file)}"
        case _:
            raise TypeError(f"unknown run {type(run).__name__}")
    return data, title


def announced(run: LanguageRun) -> tuple[UnlearningData, str]:
    """`load_data`, and says once of each file what was found in it.

    Raises:
      DataError: as `load_data`, or a column of ``--columns`` that no file has.
    """
    data, title = load_data(run)
    if isinstance(run, Request):
        check_asked(run.columns, data.sources.values())
    for source in data.sources.values():
        _say(source.in_words())
    return data, title


@functools.cache
def _say(text: str) -> None:
    console.note(text)


def _title(run: Demo) -> str:
    """What of whom is forgotten."""
    kind, _, name = run.request.partition(":")
    if kind == entangled.ATTRIBUTE:
        return f"Forgetting the {name} of {run.people} fictitious people"
    half = "half of the facts of " if kind == entangled.HALF else ""
    title = f"{half}{run.forget_people} of {run.people} fictitious people"
    near = ", neighbours watched" if kind == entangled.NEIGHBOURS else ""
    return f"Forgetting {title}{near}"


def with_general_knowledge(data: UnlearningData) -> UnlearningData:
    """The rows on real authors and world facts, first among the retain rows."""
    general = data.real_authors + data.world_facts
    retain, full = general + data.retain, general + data.full
    return dataclasses.replace(data, retain=retain, full=full)


def _with_pretraining(
    data: UnlearningData, epochs: int, scratch: bool
) -> UnlearningData:
    """The data with the rows to pretrain on, if that is asked for."""
    if epochs == 0:
        return dataclasses.replace(data, pretraining=())
    if not scratch or not data.pretraining:
        raise ValueError(
            f"--pretrain-epochs {epochs} is for models that are trained from scratch, "
            "on the rows that --max-retain leaves out; give --max-retain and neither "
            "--model nor --base-model, or 0 epochs."
        )
    return data


def divided(data: UnlearningData, task: LanguageTask) -> UnlearningData:
    """The rows as they are trained on and scored: documents in blocks, and these in
    passages (`documents.divided`); questions as they are.

    Raises:
      DataError: a set without a document that is long enough.
    """
    if not data.documents:
        return data
    return documents.divided(data, task.tokenizer, _sizes(task))


def scored_rows(
    rows: Sequence[QA], task: LanguageTask, source: object
) -> tuple[QA, ...]:
    """What is scored of these rows: documents' passages; questions as they are.

    Args:
      source: where they are from, for a message.

    Raises:
      DataError: documents without one that is long enough.
    """
    if not rows[0].is_text:
        return tuple(rows)
    if found := documents.passages(task.tokenizer, rows, _sizes(task)):
        return found
    raise DataError(
        f"{source}: no document is long enough to be begun and continued; give longer "
        "ones"
    )


def _sizes(task: LanguageTask) -> documents.Sizes:
    config = task.evaluation
    return documents.Sizes(task.max_length, config.prefix_tokens, config.max_new_tokens)


def divided_note(
    whole: UnlearningData, data: UnlearningData, task: LanguageTask
) -> str:
    """How many documents, in how many blocks."""
    return (
        f"{len(whole.forget)} forget and {len(whole.retain)} retain documents, trained "
        f"on in {len(data.forget)} and {len(data.retain)} blocks of at most "
        f"{task.max_length} tokens; scores are of how a passage at the beginning of "
        "each block is continued."
    )


def spaced(rows: Sequence[Any], most: int | None) -> tuple[Any, ...]:
    """At most ``most`` rows, evenly spaced; None: all."""
    count = len(rows) if most is None else most
    return tuple(rows[i] for i in evenly_spaced(len(rows), count))


def limited(data: UnlearningData, most: int | None) -> UnlearningData:
    """At most ``most`` rows, evenly spaced, of each evaluation set."""
    if most is None:
        return data
    fewer: dict[str, Any] = {
        field: spaced(getattr(data, field), most) for field in evaluated_sets(data)
    }
    if data.exam is not None:
        sets = {name: spaced(rows, most) for name, rows in data.exam.sets.items()}
        fewer["exam"] = dataclasses.replace(data.exam, sets=sets)
    return dataclasses.replace(data, **fewer)


def validation_request(data: UnlearningData) -> UnlearningData:
    """The request that methods are tuned on: the last retain rows, as many as there
    are forget rows, to be forgotten by a model that never saw the forget rows. Of an
    entangled request one of the same kind (`requests.entangled.played`).

    Raises:
      DataError: if there are not twice as many retain rows as forget rows.
    """
    if data.request != entangled.WHOLE:
        return entangled.played(data)
    count = len(data.forget)
    if len(data.retain) < 2 * count:
        raise DataError(
            f"--tune sets {count} retain rows aside as a forget set of its own and "
            f"there are only {len(data.retain)}; give more retain rows."
        )
    return UnlearningData(
        name=f"{data.name}/validation",
        forget=data.retain[-count:],
        retain=data.retain[:-count],
        full=data.retain,
        holdout=data.holdout,
        sources=data.sources,
    )
