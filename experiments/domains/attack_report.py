"""What the attacks on the models of a run found, as JSON values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.domains.attacks import Attacks
from experiments.domains.base import REFERENCE, TARGET, Model
from ofmu_jax.attacks.base import Attack, Found
from ofmu_jax.attacks.recovery import (
    BEST,
    NONE,
    RECOVERS,
    UNKNOWN,
    WORDS,
    Trio,
    recovery,
    strongest,
    value,
)
from ofmu_jax.evals.language.answers import KINDS

Row = Mapping[str, Any]
FROM_ZERO = (
    "steps",
    "samples",
    "share pruned",
    "images a class",
)  # axes on which 0 is no attack


def attack_report(attacks: Attacks, models: Sequence[Model]) -> dict[str, Any]:
    """Rows, a verdict a method, curves, and what was not run.

    Args:
      models: of one or several seeds, each with its yardsticks.
    """
    methods = dict.fromkeys(m.name for m in models if m.role == "unlearned")
    pairs = [(method, name) for method in methods for name in attacks.chosen]
    rows = [_row(models, *pair) for pair in pairs if _trios(models, *pair)]
    return {
        "attacks": {k: _entry(v, attacks) for k, v in attacks.chosen.items()},
        "rows": rows,
        "verdicts": [_verdict(method, rows, attacks.chosen) for method in methods],
        "curves": list(_curves(attacks.chosen, models)),
        "missing": [
            {"attack": name, "model": model.title, "why": why}
            for model in models
            for name, why in model.not_attacked.items()
        ],
    }


def attacks_told(attacks: Attacks, models: Sequence[Model]) -> dict[str, Any]:
    """The short form for the record of one unlearned model, with its yardsticks."""
    found = attack_report(attacks, models)
    names = ("attack", "recovered", "difference", "interval", "word")
    return {
        **{k: found["verdicts"][0][k] for k in ("word", "text")},
        "found": [{k: row[k] for k in names} for row in found["rows"]],
        "budgets": {name: entry["budget"] for name, entry in found["attacks"].items()},
        "not_run": {gap["attack"]: gap["why"] for gap in found["missing"]},
    }


def _entry(attack: Attack, attacks: Attacks) -> dict[str, str]:
    return {
        "title": attack.title,
        "source": attack.source,
        "unit": attack.unit,
        "axis": attack.axis,
        "budget": attack.budget_text(attacks.budget),
    }


def _trios(models: Sequence[Model], method: str, attack: str) -> list[Trio]:
    """What an attack found of each seed of a method, with its yardsticks."""
    ours = [m for m in models if m.role == "unlearned" and m.name == method]
    yardstick = lambda role, seed: _yardstick(models, role, seed, attack)
    return [
        Trio(
            model.attacked[attack],
            yardstick(REFERENCE, model.seed),
            yardstick(TARGET, model.seed),
        )
        for model in ours
        if attack in model.attacked
    ]


def _yardstick(
    models: Sequence[Model], role: str, seed: int, attack: str
) -> Found | None:
    """What it found of the target or the reference of the seed, or of the only one."""
    same = {m.seed: m for m in models if m.role == role}
    other = same.get(seed) or next(iter(same.values()), None)
    return None if other is None else other.attacked.get(attack)


def _row(models: Sequence[Model], method: str, attack: str) -> dict[str, Any]:
    """What one attack found of one method."""
    trios = _trios(models, method, attack)
    result = recovery(trios)
    said = dict.fromkeys(trio.model.said for trio in trios if trio.model.said)
    interval = None if result.interval is None else list(result.interval)
    return {
        "method": method,
        "attack": attack,
        "seeds": len(trios),
        **result._asdict(),
        "interval": interval,
        "said": "; ".join(said),
        "kinds": _kinds([trio.model for trio in trios]),
    }


def _kinds(founds: Sequence[Found]) -> dict[str, float] | None:
    """Shares of answers that refuse and that are ruins: neither has forgotten."""
    rows = [f.kinds[strongest(f)] for f in founds if f.kinds is not None]
    if not rows:
        return None
    return {k: float(np.mean(np.stack(rows) == i)) for i, k in enumerate(KINDS)}


def _verdict(method: str, rows: Sequence[Row], chosen: Iterable[str]) -> dict[str, Any]:
    """The worst of what the attacks found of a method, in words."""
    ours = [row for row in rows if row["method"] == method]
    word = min((row["word"] for row in ours), key=WORDS.index, default=UNKNOWN)
    some = [row for row in ours if row["word"] == word]
    names = [f"{row['attack']} {_amount(row)}" for row in sorted(some, key=_size)]
    absent = sorted(set(chosen) - {row["attack"] for row in ours})
    text = {
        RECOVERS: f"recovered by {', '.join(names)}",
        NONE: BEST + (f" (not run: {', '.join(absent)})" if absent else ""),
        UNKNOWN: f"cannot tell: {', '.join(names) or 'no attack was run'}",
    }[word]
    return {"method": method, "word": word, "text": text}


def _size(row: Row) -> float:
    """Sorts what recovers most to the front."""
    share = row["difference"] if row["recovered"] is None else row["recovered"]
    return 0.0 if share is None else -abs(share)


def _amount(row: Row) -> str:
    """How much, of what was to go or else of the score."""
    if row["recovered"] is not None:
        return f"{row['recovered']:.0%}"
    return (
        "without a yardstick"
        if row["difference"] is None
        else (f"{row['difference']:+.2f}")
    )


def _curves(
    chosen: Mapping[str, Attack], models: Sequence[Model]
) -> Iterator[dict[str, Any]]:
    """Values along the curve of each attack that has one, means over seeds."""
    groups = dict.fromkeys((model.role, model.name) for model in models)
    for attack in (name for name in chosen if chosen[name].axis):
        for role, method in groups:
            same = [m for m in models if (m.role, m.name) == (role, method)]
            founds = [m.attacked[attack] for m in same if attack in m.attacked]
            if not founds or len({f.at for f in founds}) > 1:
                continue
            at = list(founds[0].at)
            before = [f.before for f in founds if f.before is not None]
            points = [[value(f, k) for k in range(len(at))] for f in founds]
            values = np.mean(points, axis=0).tolist()
            if chosen[attack].axis in FROM_ZERO and before:
                at, values = [0.0, *at], [float(np.mean(before)), *values]
            curve = {"attack": attack, "role": role, "method": method}
            yield curve | {"at": at, "values": values}
