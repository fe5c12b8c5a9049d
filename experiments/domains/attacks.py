"""The attacks of a run: which, on what rows, within what budget."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.stages.files import fingerprint
from ofmu_jax.attacks.base import Attack, Attacked, Found, Progress
from ofmu_jax.attacks.once import Made
from ofmu_jax.evals.language.scores import EvaluationError


@dataclasses.dataclass(frozen=True)
class Attacks:
    """What every model of a run is attacked with."""

    chosen: Mapping[str, Attack]
    subject: Any  # what is beside a model's parameters: `ofmu_jax.attacks.base.Subject`
    rows: Any  # what an attacker may have: `ofmu_jax.attacks.base.Rows`
    budget: Any

    def made_from(self, name: str) -> str:
        """Fingerprint of what a result depends on, beside the models."""
        text = self.chosen[name].budget_text(self.budget)
        return fingerprint(name, text, self._read, self.subject.max_new_tokens)

    @functools.cached_property
    def _read(self) -> str:
        """Fingerprint of what attacks read; once for all of them on all models."""
        rows = self.rows
        parts = rows.scored, rows.forget, rows.retain, rows.holdout, rows.contrasts
        values = [[dataclasses.asdict(row) for row in part] for part in parts]
        return fingerprint(values, sorted(rows.entities.items()), rows.text)

    def common(self, *identities: str | None) -> Made:
        """What attacks keep of models that stand beside others, by the identities of
        these models."""
        return self._common.setdefault(identities, {})

    @functools.cached_property
    def _common(self) -> dict[tuple[str | None, ...], Made]:
        return {}

    def lacks(self, name: str, model: Attacked) -> str | None:
        """Why an attack cannot be run; None: it can."""
        return self.chosen[name].lacks(self.rows, model)

    def together(self, models: Sequence[Any]) -> Sequence[Any]:
        """The models with what is found only once all of them are there."""
        return models

    def run(self, name: str, model: Attacked, progress: Progress) -> Found:
        """What an attack finds.

        Raises:
          EvaluationError: scores that are not finite: nothing is known of the model.
        """
        found = self.chosen[name].run(model, self.rows, self.budget, progress)
        for scores in (found.scores, found.before, found.holdout):
            if scores is not None and not np.all(np.isfinite(scores)):
                raise EvaluationError("its scores are not finite; the model diverged")
        return found
