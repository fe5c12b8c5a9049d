"""What a reader has to know first: notes, and what attacks were not run, said once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.report import glossary

Row = Mapping[str, Any]
_OF_RUN = re.compile(r"(?P<before>.*\b)?(?P<name>\w+), seed (?P<seed>\d+)(?P<rest>.*)")


def seeds_of(seeds: Sequence[str]) -> str:
    """
    >>> seeds_of(["0"]), seeds_of(["0", "2"])
    ('seed 0', 'seeds 0, 2')
    """
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(seeds)}"


def notes(report: Row) -> list[str]:
    """The notes of a report, methods by the names that people read; what is the same of
    several seeds is one note."""
    methods = {model["method"] for model in report["models"]}
    found: dict[tuple[str, str, str], list[str]] = {}
    for note in report.get("notes") or []:
        match = _OF_RUN.fullmatch(note)
        if match is None or match["name"] not in methods:
            found.setdefault((note, "", ""), [])
            continue
        key = (match["before"] or "", _label(match["name"]), match["rest"])
        found.setdefault(key, []).append(match["seed"])
    return [
        f"{before}{name}, {seeds_of(seeds)}{rest}" if seeds else before
        for (before, name, rest), seeds in found.items()
    ]


def not_run(missing: Iterable[Row], attacks: Row) -> list[str]:
    """Attacks that were not run, each with its reason and the models, said once.

    >>> why = {"attack": "lens", "why": "it needs 2 rows"}
    >>> gaps = [{**why, "model": f"ofmu, seed {seed}"} for seed in (0, 1)]
    >>> not_run(gaps, {"lens": {"title": "Logit lens"}})
    ['Logit lens: it needs 2 rows (OFMU, seeds 0, 1)']
    """
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for gap in missing:
        name = "All attacks" if gap["attack"] == "all" else gap["attack"]
        title = attacks[name]["title"] if name in attacks else name
        models = found.setdefault((title, gap["why"]), {})
        match = _OF_RUN.fullmatch(gap["model"])
        if match is None:
            models.setdefault(gap["model"], [])
        else:
            label = f"{_label(match['name'])}{match['rest']}"
            models.setdefault(label, []).append(match["seed"])
    told = lambda models: "; ".join(
        f"{model}, {seeds_of(seeds)}" if seeds else model
        for model, seeds in models.items()
    )
    return [f"{title}: {why} ({told(m)})" for (title, why), m in found.items()]


def _label(name: str) -> str:
    return glossary.method_label({"role": "unlearned", "method": name})
