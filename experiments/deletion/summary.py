"""The end of a verification: how many checks held, what the records say happened."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.deletion.record import RECORD, read_record


class Check(NamedTuple):
    """One line of the table of a verification."""

    model: str
    name: str
    holds: bool
    detail: str
    folder: pathlib.Path  # of the export


def summary(checks: Sequence[Check]) -> Iterator[str]:
    """Lines of text.

    Args:
      checks: of all its records. What a record tells is told only where it is sealed
        with the run's key: anybody could have written another.
    """
    held = [check for check in checks if check.holds]
    yield f"{len(held)} of {len(checks)} checks hold."
    for folder, model in {check.folder: check.model for check in checks}.items():
        sealed = any(c.folder == folder and c.name == "record" for c in held)
        if not sealed:
            yield f"{model}: what happened is not known, its record does not hold."
            continue
        yield f"{model}: {happened(read_record(folder / RECORD))}"


def happened(record: Mapping[str, Any]) -> str:
    """What a record says of what became of the request, in a sentence or two.

    >>> answers = {"forgot": {"word": "forgot"}, "kept": {"word": "lost"}}
    >>> training = {"stopped": "budget used up"}
    >>> happened({"outcome": answers, "training": training})
    'the record says: forgot · lost. Training: budget used up.'
    >>> attacks = {"attacks": {"text": "recovered by nf4 40%"}}
    >>> happened({"outcome": answers, "training": training} | attacks)[-57:]
    ' Training: budget used up. Attacks: recovered by nf4 40%.'
    """
    outcome, training = record.get("outcome"), record["training"]
    stopped = f"Training: {training['stopped']}."
    if attacks := record.get("attacks"):
        stopped += f" Attacks: {attacks['text']}."
    if outcome is None:
        return f"the record says nothing of the outcome. {stopped}"
    words = " · ".join(outcome[question]["word"] for question in ("forgot", "kept"))
    destroyed = ", the model is destroyed" if outcome.get("destroyed") else ""
    return f"the record says: {words}{destroyed}. {stopped}"
