"""Attacks on the models of a run, each in a stage of its own, so that they resume."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.domains.attack_report import attacks_told
from experiments.domains.attacks import Attacks
from experiments.domains.base import Model
from experiments.pipeline import broken
from experiments.shell import console
from experiments.shell.heartbeat import Stages
from experiments.stages.files import fingerprint
from experiments.stages.stage import Stage
from ofmu_jax.attacks.base import Attacked, Found

FILE = "found.npz"
FOLDER = "attacks"  # of a model, with one for each attack


def attacked(
    model: Model,
    target: Model | None,
    reference: Model | None,
    attacks: Attacks,
    reached: Callable[[Stage, str], Stage],
    progress: Stages,
) -> Model:
    """The model with what each attack found; an attack that is done is read.

    One that breaks says why, and is tried again by the next run.

    Args:
      target, reference: of the seed; those that an auditor may hold beside the model.
      reached: counts a stage of that kind.
    """
    subject = _subject(model, target, reference, attacks)
    names = _identities(model, target, reference)
    found: dict[str, Found] = {}
    missing: dict[str, str] = {}
    for name in attacks.chosen:
        if (why := attacks.lacks(name, subject)) is None:
            try:
                found[name] = _one(
                    model, subject, names, attacks, name, reached, progress
                )
            except broken.causes() as error:
                why = broken.reason_of(error)
                console.warning(f"attack {name} on {model.title} broke: {why}")
        if why is not None:
            missing[name] = why
    return dataclasses.replace(model, attacked=found, not_attacked=missing)


def all_done(
    model: Model, target: Model | None, reference: Model | None, attacks: Attacks
) -> bool:
    """Whether `attacked` will find everything done, and need no parameters."""
    subject = _subject(model, target, reference, attacks)
    names = _identities(model, target, reference)
    return all(
        _stage(model, names, attacks, name).done
        for name in attacks.chosen
        if attacks.lacks(name, subject) is None
    )


def _subject(
    model: Model, target: Model | None, reference: Model | None, attacks: Attacks
) -> Attacked:
    others = target, reference
    beside = [other and other.params for other in others]
    common = attacks.common(*(x.identity if x else None for x in others))
    return Attacked(attacks.subject, model.params, *beside, own={}, common=common)


def _identities(*models: Model | None) -> list[str]:
    return [model.identity for model in models if model]


def _stage(model: Model, identities: list[str], attacks: Attacks, name: str) -> Stage:
    """Of an attack, which is done again where what it reads has changed."""
    used = identities if attacks.chosen[name].beside else identities[:1]
    identity = fingerprint(attacks.made_from(name), *used)
    return Stage(model.folder / FOLDER / name, identity)


def _one(
    model: Model,
    subject: Attacked,
    identities: list[str],
    attacks: Attacks,
    name: str,
    reached: Callable[[Stage, str], Stage],
    progress: Stages,
) -> Found:
    """What one attack finds, or found when its stage was done."""
    stage = reached(_stage(model, identities, attacks, name), name)
    if not stage.done:
        bar = progress.add_task(f"{name} on {model.title}", total=100, note="")
        tell = lambda share: progress.update(bar, completed=round(100 * share))
        folder, found = stage.begin(), attacks.run(name, subject, tell)
        save(folder / FILE, found)
        stage.finish({"said": found.said})
        progress.update(bar, completed=100)
    return load(stage.folder / FILE, stage.result["said"])


def told(
    attacks: Attacks | None, model: Model, target: Model, reference: Model | None
) -> dict[str, Any] | None:
    """What a record says of the attacks on a model; None: there were none."""
    if attacks is None:
        return None
    return attacks_told(attacks, [model, target, *([reference] if reference else [])])


def save(path: pathlib.Path, found: Found) -> None:
    """Writes the arrays of what an attack found."""
    arrays = {k: v for k, v in found._asdict().items() if k != "said" and v is not None}
    np.savez(path, **arrays)


def load(path: pathlib.Path, said: str) -> Found:
    """What `save` wrote."""
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return Found(tuple(found.pop("at").tolist()), said=said, **found)
