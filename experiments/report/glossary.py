"""What the metrics of a report are called, what they mean and where they should be."""

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from experiments.domains.verdict import ADJACENT as ADJACENT
from experiments.domains.verdict import FORGET as FORGET
from experiments.domains.verdict import RETAIN as RETAIN
from ofmu_jax.methods.language import registry as language
from ofmu_jax.methods.vision import registry as vision

# How much of the forgotten answers a model still says, which no p-value shows.
LEAKS = ("forget_Q_A_ROUGE", "extraction_strength", "exact_memorization")

_TEXT = resources.files("experiments.report").joinpath("glossary.toml")
_ENTRIES = tomllib.loads(_TEXT.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric: ``label`` for tables, ``text`` for people new to the field."""

    name: str
    label: str
    goal: str  # reference, higher, lower, zero or unknown
    text: str = ""
    minor: bool = False  # a variant or a derived number: left out of the bar charts
    chance: str = ""  # the metric that is its value by chance

    @property
    def range(self) -> tuple[float, float]:
        """What it can be, both ends included; infinite where it has no end.

        >>> metric("forget_Q_A_Prob").range, metric("privleak").range
        ((0.0, 1.0), (-100.0, inf))
        >>> metric("my_score").range
        (-inf, inf)
        """
        name, ranges = canonical(self.name), _ENTRIES["ranges"]
        if name in ranges or name in _BY_NAME:
            low, high = ranges.get(name, (0.0, 1.0))
        elif name.endswith(("_gap", "_equivalence_p")) or self.goal == "reference":
            low, high = (0.0, 1.0)
        else:
            low, high = (-1, 1) if self.goal == "zero" else (-math.inf, math.inf)
        return float(low), float(high)

    @property
    def sign(self) -> str:
        """Sign of the goal, such as ``↑``."""
        return _ENTRIES["goals"][self.goal][0]

    @property
    def goal_text(self) -> str:
        """The goal in words."""
        return _ENTRIES["goals"][self.goal][1]


def _metric(name: str, text: str = "", **fields: Any) -> Metric:
    return Metric(name, text=text.format_map(_ENTRIES["phrases"]), **fields)


_BY_NAME = {name: _metric(name, **entry) for name, entry in _ENTRIES["metrics"].items()}
_ORDER = {name: place for place, name in enumerate(_BY_NAME)}
_SETS, _ALIASES = _ENTRIES["sets"], _ENTRIES["aliases"]
_METHODS = {
    **_ENTRIES["methods"],
    **{n: spec.title for n, spec in (vision.METHODS | language.METHODS).items()},
}

FIGURES: dict[str, dict[str, str]] = _ENTRIES["figures"]  # name and caption of each


def canonical(name: str) -> str:
    """The glossary's name of a metric that goes by several."""
    return _ALIASES.get(name, name)


def metric(name: str) -> Metric:
    """The entry of a metric; one made from the name if the glossary lacks it.

    >>> metric("forget_heldout_Prob").label
    'forget, held-out'
    >>> metric("wf_Q_A_ROUGE").label, metric("my_score").label
    ('world facts ROUGE', 'my score')
    """
    known = _BY_NAME.get(canonical(name))
    if known is not None:
        return dataclasses.replace(known, name=name)
    group, _, rest = name.partition("_")
    if group in _SETS and rest:
        label = f"{_SETS[group]} {rest.replace('Q_A_', '').replace('_', ' ')}"
        if rest.startswith(("Q_A_", "Truth_Ratio")):
            text = f"As for retain, on the {_SETS[group]} set."
            return Metric(name, label, "higher", text)
    label = name.replace("_", " ")
    if name.endswith("_gap"):
        text = "Distance of this attack's AUC from the retrained model's."
        return Metric(name, label, "lower", text, minor=True)
    if name.endswith("_difference"):
        text = "Mean difference to the retrained model, row against row."
        return Metric(name, label, "zero", text, minor=True)
    if name.endswith("_equivalence_p"):
        text = "p-value of the test that this difference is within its margin."
        return Metric(name, label, "lower", text, minor=True)
    if name.startswith(("forget_", "extraction_", "mia_")):
        return Metric(name, label, "reference", minor=True)
    return Metric(name, label, "unknown")


def ordered(names: Iterable[str]) -> list[str]:
    """Metric names without repeats: those of the glossary in its order, then others."""
    known, unknown = [], []
    for name in dict.fromkeys(names):
        (known if canonical(name) in _ORDER else unknown).append(name)
    return [*sorted(known, key=lambda n: _ORDER[canonical(n)]), *sorted(unknown)]


def first_present(candidates: Iterable[str], present: Iterable[str]) -> str | None:
    """The name in ``present`` of the first candidate that is there, by any alias."""
    by_canonical = {canonical(name): name for name in present}
    return next((by_canonical[c] for c in candidates if c in by_canonical), None)


def method_label(row: Mapping[str, Any]) -> str:
    """Name for people of a model or of a row of the summary."""
    name = row["method"]
    label = _METHODS.get(row["role"] if row["role"] != "unlearned" else name, name)
    return f"{label} · {row['run']}" if row.get("run") else label
