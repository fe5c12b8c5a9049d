"""The attacks of a run: which, on what rows, within what budget."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.stages.files import fingerprint
from ofmu_jax.attacks.base import Attack, Attacked, Found, Progress


@dataclasses.dataclass(frozen=True)
class Attacks:
    """What every model of a run is attacked with."""

    chosen: Mapping[str, Attack]
    subject: Any  # what is beside a model's parameters: `ofmu_jax.attacks.base.Subject`
    rows: Any  # what an attacker may have: `ofmu_jax.attacks.base.Rows`
    budget: Any

    def made_from(self, name: str) -> str:
        """Fingerprint of what a result depends on, beside the models."""
        attack = self.chosen[name]
        rows = [[dataclasses.asdict(row) for row in part] for part in self._parts]
        entities = sorted(self.rows.entities.items())
        text = attack.budget_text(self.budget)
        size = self.subject.max_new_tokens
        return fingerprint(name, text, rows, entities, self.rows.text, size)

    @property
    def _parts(self) -> tuple[Any, ...]:
        rows = self.rows
        return rows.scored, rows.forget, rows.retain, rows.holdout, rows.contrasts

    def lacks(self, name: str, model: Attacked) -> str | None:
        """Why an attack cannot be run; None: it can."""
        return self.chosen[name].lacks(self.rows, model)

    def together(self, models: Sequence[Any]) -> Sequence[Any]:
        """The models with what is found only once all of them are there."""
        return models

    def run(self, name: str, model: Attacked, progress: Progress) -> Found:
        """What an attack finds."""
        return self.chosen[name].run(model, self.rows, self.budget, progress)
