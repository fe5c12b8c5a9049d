"""What the deletion record of an unlearned model is made of."""

import pathlib
from collections.abc import Callable
from typing import Any, Protocol

from experiments.deletion.record import Unlearned
from experiments.domains.base import Domain, Model
from experiments.domains.verdict import facts, verdict
from experiments.stages.files import fingerprint


class Compared(Protocol):
    """What a method started from, and what it is held against."""

    @property
    def target(self) -> Model: ...

    @property
    def reference(self) -> Model | None: ...


def unlearned(
    domain: Domain,
    model: Model,
    start: Compared,
    export: Callable[[Model], pathlib.Path],
    attacks: dict[str, Any] | None,
) -> Unlearned:
    """An exported model as its record tells it.

    Args:
      export: the folder of a model's export.
      attacks: what is told of them; None: there were none.
    """
    evaluation = model.evaluation
    assert evaluation is not None
    outcome = _outcome(domain, model, start)
    made_from = model.identity, domain.evaluated_by(), evaluation.to_json(), outcome
    return Unlearned(
        model.name,
        model.seed,
        export(model),
        fingerprint(*made_from, *(() if attacks is None else (attacks,))),
        model.record,
        evaluation,
        base=start.target.record.get("source") or export(start.target),
        reference=None if start.reference is None else export(start.reference),
        outcome=outcome,
        attacks=attacks,
    )


def _outcome(domain: Domain, model: Model, start: Compared) -> dict[str, Any]:
    """The verdict on a model, by what it started from and is held against."""
    chance = domain.about.chance
    ours, target, reference = (
        None if of is None else facts(of, chance)
        for of in (model, start.target, start.reference)
    )
    assert ours is not None
    found = verdict(ours, target, reference).to_json()
    met = {"forget_target_met": ours.met, "broke_off": not ours.finite}
    return found | met
