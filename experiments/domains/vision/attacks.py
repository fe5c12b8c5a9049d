"""What the classifiers of a run are attacked with."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.domains.attacks import Attacks
from experiments.domains.base import REFERENCE, TARGET, Model
from experiments.domains.vision.task import VisionTask
from experiments.stages.files import fingerprint
from ofmu_jax.attacks.base import Attacked, Found
from ofmu_jax.attacks.registry import chosen
from ofmu_jax.attacks.vision.base import Images
from ofmu_jax.attacks.vision.registry import ATTACKS
from ofmu_jax.attacks.vision.u_lira import (
    Shadows,
    alike,
    logit_confidence,
    told_apart,
)

U_LIRA = "u-lira"
LATER = "it needs the models of all seeds, and is in the report of the run alone"
TOO_FEW = (
    "it needs two seeds or more with a retrained model each: --seeds 0 1 "
    "--no-share-models"
)


@dataclasses.dataclass(frozen=True)
class ImageAttacks(Attacks):
    """Those of a run; U-LiRA once all models are there, as the others are shadows."""

    def made_from(self, name: str) -> str:
        # The images are part of what a model is made from.
        return fingerprint(name, self.chosen[name].budget_text(self.budget))

    def lacks(self, name: str, model: Attacked) -> str | None:
        return LATER if name == U_LIRA else super().lacks(name, model)

    def together(self, models: Sequence[Model]) -> Sequence[Model]:
        if U_LIRA not in self.chosen:
            return models
        found = _u_lira(models)
        return [_with(model, found) for model in models]


def attacks_of(names: tuple[str, ...], budget: Any, task: VisionTask) -> Attacks | None:
    """The attacks of those names; None if there are none."""
    if not names:
        return None
    sets = task.sets
    images = Images(sets["forget"], sets["retain"], task.run.eval_batch_size)
    return ImageAttacks(chosen(names, ATTACKS), task.config, images, budget)


def _with(model: Model, found: Mapping[tuple[str, int], Found]) -> Model:
    """The model with what U-LiRA found of it, or why there is nothing.

    The target is not its business.
    """
    missing = {k: v for k, v in model.not_attacked.items() if k != U_LIRA}
    attacked = dict(model.attacked)
    if (model.name, model.seed) in found:
        attacked[U_LIRA] = found[model.name, model.seed]
    elif model.role != TARGET:
        missing[U_LIRA] = TOO_FEW
    return dataclasses.replace(model, attacked=attacked, not_attacked=missing)


def _u_lira(models: Sequence[Model]) -> dict[tuple[str, int], Found]:
    """What it finds of each unlearned and retrained model, by name and seed."""
    found: dict[tuple[str, int], Found] = {}
    retrained = {m.seed: _confidence(m) for m in models if m.role == REFERENCE}
    methods: dict[str, dict[int, np.ndarray]] = collections.defaultdict(dict)
    for model in models:
        if model.role == "unlearned" and model.evaluation is not None:
            methods[model.name][model.seed] = _confidence(model)
    for name, unlearned in methods.items():
        seeds = sorted(unlearned.keys() & retrained.keys())
        for seed in seeds if len(seeds) > 1 else ():
            others = [other for other in seeds if other != seed]
            kinds = (unlearned, retrained)
            shadows = Shadows(*(np.stack([k[s] for s in others]) for k in kinds))
            ours, theirs = unlearned[seed], retrained[seed]
            found[name, seed] = told_apart(ours, theirs, shadows)
            found[REFERENCE, seed] = alike(len(theirs), len(others))
    return found


def _confidence(model: Model) -> np.ndarray:
    """Of the forget images, from what the evaluation left."""
    with np.load(model.folder / "evaluation" / "forget.npz") as saved:
        return logit_confidence(saved["probabilities"], saved["labels"])
