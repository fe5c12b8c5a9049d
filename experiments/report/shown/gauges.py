"""The first screen of a report: a row a method, with two gauges and its evidence."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.domains.verdict import KEPT, NEAR, NOTHING, UNKNOWN, WAY
from experiments.report import glossary, words
from experiments.report.comparison import equivalence_text
from experiments.report.gaps import AGGREGATE
from experiments.report.summary import half_width, mean, number, present

Row = Mapping[str, Any]
Span = tuple[float, float]
QUESTIONS = {"forgot": glossary.FORGET, "kept": glossary.RETAIN}


class Gauge(NamedTuple):
    """One answer as a picture; all values are those of the metric."""

    metric: glossary.Metric
    quantity: str  # what is measured, in words
    before: float | None  # the target's mean
    now: float
    goal: float | None  # the retrained model's mean
    zone: Span | None  # where the answer is a good one
    interval: Span | None  # of the mean over seeds, 95 %
    seeds: Sequence[tuple[int, float]]  # seed, value
    share: str  # how much of the way, or of what was to be kept

    def at(self, value: float) -> float:
        """Where a value lies on the axis, in percent of its length.

        The axis is all that the quantity can be, and nothing lies beyond its ends.
        """
        low, high = self.metric.range
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    @property
    def text(self) -> str:
        """For screen readers."""
        before = "" if self.before is None else f"{number(self.before)} before, "
        goal = "" if self.goal is None else f", retrained {number(self.goal)}"
        return f"{self.quantity}: {before}{number(self.now)} now{goal}"


def rows(report: Row, palette: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row a method, the nearest to the retrained model first.

    Args:
      report: complete (`experiments.report.write.complete`).
      palette: label -> colour.
    """
    found = [_row(verdict, report, palette) for verdict in report["verdicts"]]
    unknown = float("inf")
    return sorted(found, key=lambda r: unknown if r["gap"] is None else r["gap"])


def heads(found: Sequence[Row]) -> dict[str, str]:
    """Question -> what most of its gauges measure; "" where nothing is."""
    gauges = {q: [row[q] for row in found if row[q] is not None] for q in QUESTIONS}
    return {
        question: statistics.mode(gauge.quantity for gauge in own) if own else ""
        for question, own in gauges.items()
    }


def _row(verdict: Row, report: Row, palette: Mapping[str, str]) -> dict[str, Any]:
    run, method = verdict.get("run"), verdict["method"]
    of_run = [row for row in report["summary"] if row.get("run") == run]
    own = next(row for row in of_run if row["method"] == method)
    label, models = glossary.method_label(own), _models(verdict, report)
    return {
        "method": method,
        "label": label,
        "colour": palette[label],
        "badge": verdict["badge"],
        "words": words.badge_text(verdict),
        "destroyed": verdict["destroyed"],
        "gap": mean(own["metrics"].get(AGGREGATE)),
        **{q: _gauge(q, verdict, own, of_run, models) for q in QUESTIONS},
        "chips": _chips(verdict, models, report),
        "sentences": words.card(verdict, report)["sentences"],
    }


def _models(verdict: Row, report: Row) -> list[Row]:
    key = verdict.get("run"), verdict["method"]
    return [
        model
        for model in report["models"]
        if model["role"] == "unlearned" and (model.get("run"), model["method"]) == key
    ]


def _gauge(
    question: str, verdict: Row, own: Row, of_run: Sequence[Row], models: Sequence[Row]
) -> Gauge | None:
    decides = verdict[question]["metric"]
    names = [decides] if decides else QUESTIONS[question]
    name = glossary.first_present(names, present([own]))
    if name is None:
        return None
    before, goal = (
        next((_value(row, name) for row in of_run if row["role"] == role), None)
        for role in ("target", "retrained")
    )
    stat = own["metrics"][name]
    known = ((m["seed"], m["metrics"].get(name)) for m in models)
    seeds = [(seed, value) for seed, value in known if value is not None]
    chance = verdict["chance"]
    entry = glossary.metric(name)
    zone = None
    if verdict[question]["word"] not in (NOTHING, UNKNOWN):  # then none is far enough
        zone = zone_of(question, before, goal, chance, entry.range)
    share = _share(question, stat["mean"], before, goal, chance)
    quantity = words.quantity(name).removeprefix("the ").rstrip(",")
    return Gauge(
        entry,
        quantity,
        before,
        stat["mean"],
        goal,
        zone,
        interval_of(stat, entry.range),
        seeds,
        share,
    )


def _value(row: Row, name: str) -> float | None:
    """The mean of a metric, by any of its names."""
    found = glossary.first_present([glossary.canonical(name)], row["metrics"])
    return mean(row["metrics"].get(found)) if found else None


def zone_of(
    question: str, before: float | None, goal: float | None, chance: float, ends: Span
) -> Span | None:
    """Where a value has to lie for a good answer, as `experiments.domains.verdict`
    judges; None where no value of this metric decides.

    >>> zone_of("forgot", 0.9, 0.1, 0.0, (0.0, 1.0))
    (0.0, 0.2)
    >>> zone_of("kept", 0.5, 0.5, 0.0, (0.0, 1.0))
    (0.45, 1.0)
    """
    if before is None:
        return None
    if question == "kept":
        least = chance + KEPT * (before - chance)
        return (least, ends[1]) if before > chance else None
    if goal is None or before <= goal:
        return None
    return ends[0], goal + min(NEAR, (1 - WAY) * (before - goal))


def interval_of(stat: Row, ends: Span) -> Span | None:
    """The 95 % interval of a mean, within what the quantity can be."""
    half = half_width(stat)
    if half is None:
        return None
    return max(stat["mean"] - half, ends[0]), min(stat["mean"] + half, ends[1])


def _share(
    question: str, now: float, before: float | None, goal: float | None, chance: float
) -> str:
    if question == "kept":
        if before is None or before <= chance:
            return ""
        return f"{(now - chance) / (before - chance):.0%} left"
    if before is None or goal is None or before <= goal:
        return ""
    return f"{min(max((before - now) / (before - goal), 0.0), 1.0):.0%} of the way"


def _chips(verdict: Row, models: Sequence[Row], report: Row) -> list[dict[str, str]]:
    """What the row stands on: seeds, likeness to the retrained model, the record."""
    seeds = verdict["seeds"]
    spread = {1: "no interval", 2: "dots, no interval"}.get(seeds, "95 % intervals")
    why = (
        "Each dot is a run with a seed of its own. The band is Student's interval of "
        "the mean over seeds, from three seeds on."
    )
    chips = [{"text": f"{words.count(seeds, 'seed')}, {spread}", "title": why}]
    compared = next(
        row
        for row in report["comparison"]["methods"]
        if (row.get("run"), row["method"]) == (verdict.get("run"), verdict["method"])
    )
    if (found := compared.get("equivalence")) is not None:
        text = equivalence_text(found)
        shown = "not shown" if text.startswith("not") else "shown"
        title = f"Two one-sided tests that it is like the retrained model: {text}."
        chips.append({"text": f"like retrained: {shown}", "title": title})
    sealed = sum(bool(model.get("sealed")) for model in models)
    if sealed:
        of = "" if sealed == len(models) else f" ({sealed} of {len(models)})"
        title = (
            "deletion.json in the export says what was forgotten and how, sealed with "
            "the run's key; experiments.verify checks it."
        )
        chips.append({"text": f"record sealed{of}", "title": title})
    else:
        title = "No export of this run has a sealed deletion record."
        chips.append({"text": "no record", "title": title})
    return chips
