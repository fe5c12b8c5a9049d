"""Deletion records of requests one after another: each names the one before by hash.

A record lies in the model that it is about. A request that starts from such a model
puts the SHA-256 of that record into its own, which is sealed, so that the last record
of a lineage stands for all: an earlier one that was changed, swapped or left out is
found.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.config.sequence import Link, is_sequence, lineage
from experiments.config.stored import run_from_json
from experiments.deletion.record import (
    RECORD,
    DeletionError,
    key_id,
    parent_of,
    read_record,
    row_hashes,
)
from experiments.stages.files import to_json
from ofmu_jax.models.huggingface import folder as huggingface

DEPTH = 4  # <request>/<method>/seed<k>/hf: an export below the folder of its lineage


def ancestors(
    base: str | pathlib.Path, record: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The records of the models before one, from the nearest to the first.

    Args:
      base: the model that the one of ``record`` started from.

    Raises:
      DeletionError: a record is not at hand, or is not the one that its child names.
    """
    place: str | pathlib.Path | None = base
    while (named := record.get("parent")) is not None:
        found = None if place is None else parent_of(place)
        if place is None or found is None:
            raise DeletionError(
                f"the model before has no {RECORD}{f' in {place}' if place else ''}, "
                "and the record after it names one."
            )
        if found != named:
            raise DeletionError(f"{place} has another {RECORD} than its child names.")
        folder = huggingface.locate(place)
        record = read_record(folder / RECORD)
        yield record
        place = before(folder)


def before(folder: pathlib.Path) -> pathlib.Path | None:
    """The model that an export of a run started from, by the run's ``config.json``:
    beside it, as a lineage may have been moved as a whole, or else where it was."""
    run = folder.resolve().parents[DEPTH - 2]
    try:
        name = json.loads((run / "config.json").read_bytes())["model"]
        given = pathlib.Path(name)
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    places = (run.parent.joinpath(*given.parts[-DEPTH:]), given)
    return next((place for place in places if place.is_dir()), None)


def kept_again(
    key: bytes, earlier: Sequence[Mapping[str, Any]], rows: Sequence[Any]
) -> list[int]:
    """Numbers (from 1) of the rows that one of the earlier requests was to forget.

    Records that were made with another key say nothing of rows.
    """
    known = [found["forget"] for found in earlier]
    same = [found for found in known if found["key_id"] == key_id(key)]
    gone = {row for found in same for row in found["row_hashes"]}
    hashes = row_hashes(key, rows) if gone else []
    return [number for number, row in enumerate(hashes, 1) if row in gone]


def lineages(
    config: Mapping[str, Any],
    out: pathlib.Path,
    forget_file: pathlib.Path | tuple[pathlib.Path, ...] | None,
) -> list[list[Link]]:
    """The lineages of a run of several requests; none for any other run, or where its
    configuration cannot be read back.

    Args:
      config: of the run's last command.
      out: where its folder is now.
      forget_file: where its files of forget rows are, if elsewhere.
    """
    changes: dict[str, Any] = {"output_dir": str(out)}
    if forget_file is not None:
        changes["forget_file"] = to_json(forget_file)
    try:
        run = run_from_json({**config, **changes})
    except ValueError:
        return []
    if not is_sequence(run):
        return []
    methods = (name for name in run.methods if name in run.specs)  # no other folder
    return [lineage(run, name, seed) for name in methods for seed in run.seeds]
