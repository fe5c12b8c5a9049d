"""The one number that methods are ranked by, and how far forgetting is from its goal.

Per model, against the retrained one of the same seed (or the only one there is):

- ``forget_gap`` = |f − f*|: f is the forget probability (of images: accuracy), on
  held-out questions where there are any, and f* the retrained model's. Forgetting too
  much counts as forgetting too little does.
- ``overall_gap`` = |f − f*| + max(0, u* − u, r* − r, a* − a): u is the model utility
  (of images: the test accuracy), r the retain probability (accuracy) and a that of
  adjacent rows, held-out questions first; what there is of the three. The largest loss
  counts, since a utility that is 0 for the retrained model too, as a harmonic mean
  easily is, would let a destroyed model pass. 0 = forgets and keeps like the retrained
  model; keeping more than it earns nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.report import glossary

AGGREGATE, FORGET_GAP = "overall_gap", "forget_gap"
GENERAL = ("model_utility", "test_accuracy")
UTILITY = (*GENERAL, *glossary.RETAIN)  # what stands for utility alone

Row = Mapping[str, Any]


def with_gaps(models: Iterable[Row]) -> list[dict[str, Any]]:
    """The models of a report with both gaps among their metrics, where they exist.

    >>> numbers = lambda f, u: {"forget_Q_A_Prob": f, "model_utility": u}
    >>> goal = {"role": "retrained", "seed": 0, "metrics": numbers(0.1, 0.6)}
    >>> model = {"role": "unlearned", "seed": 0, "metrics": numbers(0.4, 0.5)}
    >>> round(with_gaps([goal, model])[1]["metrics"]["overall_gap"], 6)
    0.4
    """
    models = list(models)
    forget = chosen(models, glossary.FORGET)
    kinds = (GENERAL, glossary.RETAIN, glossary.ADJACENT)
    kept = [chosen(models, names) for names in kinds]
    kept = [name for name in kept if name is not None]
    found = []
    for model in models:
        goal = None
        if model["role"] != "retrained":
            goal = of_role("retrained", model, models)
        gaps = _gaps(model, goal, forget, kept)
        found.append({**model, "metrics": {**model["metrics"], **gaps}})
    return found


def chosen(models: Sequence[Row], candidates: Iterable[str]) -> str | None:
    """The first candidate that every model has, as the reports of one run do."""
    if not models:
        return None
    shared = set.intersection(*(set(m["metrics"]) for m in models))
    return glossary.first_present(candidates, shared)


def of_role(role: str, model: Row, models: Iterable[Row]) -> Row | None:
    """The target or the retrained model of the same run and seed, or the only one."""
    found = {
        m["seed"]: m
        for m in models
        if m["role"] == role and m.get("run") == model.get("run")
    }
    if len(found) == 1:
        return next(iter(found.values()))
    return found.get(model["seed"])


def _gaps(
    model: Row, goal: Row | None, forget: str | None, kept: Sequence[str]
) -> dict[str, float | None]:
    if goal is None or forget is None:
        return {}
    away = _difference(model, goal, forget)
    gap = None if away is None else abs(away)
    if not kept:
        return {FORGET_GAP: gap}
    more = [_difference(model, goal, name) for name in kept]
    known = [-x for x in more if x is not None]
    if gap is None or len(known) < len(more):
        return {FORGET_GAP: gap, AGGREGATE: None}
    return {FORGET_GAP: gap, AGGREGATE: gap + max(0.0, *known)}


def _difference(model: Row, goal: Row, name: str) -> float | None:
    """Of a metric to the retrained model's; None where one is not finite."""
    ours, theirs = (m["metrics"].get(name) for m in (model, goal))
    if ours is None or theirs is None or not math.isfinite(ours - theirs):
        return None
    return ours - theirs
