"""What an ablation says of the paper's three claims, and by which rule.

A claim has *parts*, each a difference or a correlation with its 95 % interval:
``confirmed`` if the interval lies on the claim's side of 0, ``refuted`` if on the
other, else ``undecided``; ``not measured`` without numbers. Intervals over seeds are
Student's and need two seeds. Parts with ``decides`` false are shown and do not count.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from experiments.ablation.grid import OFMU, Variant
from experiments.ablation.statistics import (
    by_seed,
    correlation,
    correlation_difference,
    paired,
    statistic,
)

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
NOT_MEASURED = "not measured"
KEPT = 0.9  # share of the target's retain probability that a usable run keeps
Rows = Sequence[Mapping[str, Any]]
_FILE = resources.files("experiments.ablation").joinpath("claims.toml")
CLAIMS = tomllib.loads(_FILE.read_text(encoding="utf-8"))  # text and rule of each


def verdict(stat: Mapping[str, Any]) -> str:
    """Which side of 0 an interval lies on, above being the claim's."""
    if stat["mean"] is None:
        return NOT_MEASURED
    if stat["low"] is not None and stat["low"] > 0:
        return CONFIRMED
    if stat["high"] is not None and stat["high"] < 0:
        return REFUTED
    return UNDECIDED


def part(text: str, stat: Mapping[str, Any], decides: bool = True) -> dict[str, Any]:
    """A part of a claim with its verdict."""
    return {"text": text, **stat, "verdict": verdict(stat), "decides": decides}


def together(parts: Rows) -> str:
    """The verdict on which all deciding parts agree; undecided where they do not."""
    found = {p["verdict"] for p in parts if p["decides"]}
    return found.pop() if len(found) == 1 else UNDECIDED if found else NOT_MEASURED


def _claim(name: str, parts: list, decision: str) -> dict[str, Any]:
    text, rule = CLAIMS[name]["text"], CLAIMS[name]["rule"]
    head = {"id": name, "text": text, "verdict": decision}
    return {**head, "rule": rule, "parts": parts}


def similarity_claim(variants: Sequence[Variant], rows: Rows) -> dict[str, Any]:
    """(a): the similarity term protects retention.

    The configured term decides; where none is configured, the cosine with β = 0.1.
    """
    group = [v for v in variants if v.group == "beta"]
    without = next((v for v in group if v.config.beta == 0), None)
    terms = [v for v in group if v.config.beta != 0]
    if without is None or not terms:
        return _claim("a", [], NOT_MEASURED)
    first = min(terms, key=lambda v: (v.key != v.method, v.config.beta != 0.1))
    parts, decision = [], NOT_MEASURED
    for term in [first, *(v for v in terms if v is not first)]:
        kept, forgot, cosine = (
            paired(rows, term.key, without.key, metric)
            for metric in ("retain_prob", "forget_prob", "cosine")
        )
        what = f"{term.label} minus β = 0"
        parts.append(part(f"retain probability, {what}", kept, term is first))
        parts.append(part(f"forget probability, {what}", forgot, False))
        parts.append(part(f"mean cosine, {what}", cosine, False))
        if term is first:
            decision = verdict(kept)
            if decision in (CONFIRMED, REFUTED) and verdict(forgot) == decision:
                decision = UNDECIDED  # it kept more because it forgot less, or v. v.
    return _claim("a", parts, decision)


def spreads(
    variants: Sequence[Variant], rows: Rows, before: Rows
) -> dict[str, dict[str, Any]]:
    """Per series of the group weighting how far its outcomes spread over the grid.

    Ranges of forget and of retain probability, their mean, and the share of usable
    points: the forget target met and 90 % of the target's retain probability kept.
    Only seeds that have every point count.
    """
    start = {row["seed"]: row["retain_prob"] for row in before}
    found: dict[str, dict[str, Any]] = {}
    for series in dict.fromkeys(v.series for v in variants if v.series):
        keys = [v.key for v in variants if v.series == series]
        forget, retain, met = (
            [by_seed(rows, key, metric) for key in keys]
            for metric in ("forget_prob", "retain_prob", "target_met")
        )
        seeds = [s for s in start if all(s in at for at in (*forget, *retain))]
        ranges = {
            name: {s: float(np.ptp([point[s] for point in points])) for s in seeds}
            for name, points in (("forget", forget), ("retain", retain))
        }
        usable = [
            np.mean(
                [
                    bool(m.get(s, 1.0)) and r[s] >= KEPT * start[s]
                    for m, r in zip(met, retain, strict=True)
                ]
            )
            for s in seeds
        ]
        spread = {s: (ranges["forget"][s] + ranges["retain"][s]) / 2 for s in seeds}
        found[series] = {
            "keys": keys,
            "by_seed": spread,
            "spread": statistic(spread.values()),
            "forget_range": statistic(ranges["forget"].values()),
            "retain_range": statistic(ranges["retain"].values()),
            "usable": statistic(usable),
        }
    return found


def weighting_claim(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """(b): linear weighting is unstable; ``found`` is what `spreads` returns."""
    ours = found.get(f"{OFMU} ρ", {}).get("by_seed", {})
    inner = found.get(f"{OFMU} η_in", {}).get("by_seed", {})
    parts = []
    for series in ("grad_diff α", "npo α"):
        theirs = found.get(series, {}).get("by_seed", {})
        for name, other, decides in (("ρ", ours, True), ("η_in", inner, False)):
            stat = statistic(theirs[s] - other[s] for s in theirs if s in other)
            what = f"spread over its grid, {series} minus OFMU over {name}"
            parts.append(part(what, stat, decides))
    return _claim("b", parts, together(parts))


def difficulty_points(points: Rows, method: str) -> dict[str, tuple[float, float]]:
    """Group of rows -> (difficulty, utility loss) of a method.

    Seeds that share the target have the same groups; those are averaged, so that the
    points of a correlation are independent.
    """
    groups: dict[str, list[tuple[float, float]]] = {}
    for p in points:
        if p["method"] == method:
            # Rounded: the same model, or another one.
            name = f"{p['identity']} {p['nll_before']:.9g}"
            groups.setdefault(name, []).append((p["difficulty"], p["utility_loss"]))
    return {k: (float(np.mean([x for x, _ in v])), float(np.mean([y for _, y in v])))
            for k, v in groups.items()}  # fmt: skip


def by_method(points: Rows, resamples: int) -> dict[str, Any]:
    """Per method the correlation of difficulty and utility loss, against OFMU's, and
    per seed the loss of the hardest group minus that of the easiest."""
    ours = difficulty_points(points, OFMU)
    found = {}
    for method in dict.fromkeys(p["method"] for p in points):
        at = difficulty_points(points, method)
        x, y = _columns(at, ours)
        _, other = _columns(ours, at)
        losses = _losses(points, method)
        found[method] = {
            "correlation": correlation(*_columns(at, at), resamples),
            "minus_ofmu": correlation_difference(x, y, other, resamples),
            "utility_loss": statistic(map(np.mean, losses)),
            "hardest_minus_easiest": statistic(own[-1] - own[0] for own in losses),
        }
    return found


def _columns(points: Mapping[str, tuple[float, float]], common: Iterable[str]):
    """Difficulties and utility losses of the points that ``common`` has too."""
    at = [points[name] for name in sorted(set(points) & set(common))]
    return [x for x, _ in at], [y for _, y in at]


def _losses(points: Rows, method: str) -> list[list[float]]:
    """Per seed the utility losses of the groups, the easiest first."""
    seeds: dict[int, list[float]] = {}
    for p in sorted(points, key=lambda p: p["difficulty"]):
        if p["method"] == method:
            seeds.setdefault(p["seed"], []).append(p["utility_loss"])
    return list(seeds.values())


def difficulty_claim(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """(c): hard samples no longer cost utility; of `by_method`."""
    if OFMU not in found:
        return _claim("c", [], NOT_MEASURED)
    ours = verdict(found[OFMU]["correlation"])
    what = "correlation of difficulty and utility loss"
    parts = [_cost(f"{what}, ofmu", found[OFMU]["correlation"])]
    costly = []
    for method in (m for m in found if m != OFMU):
        parts.append(_cost(f"{what}, {method}", found[method]["correlation"], False))
        bears = verdict(found[method]["correlation"]) == CONFIRMED
        difference = found[method]["minus_ofmu"]
        parts.append(part(f"{what}, {method} minus ofmu", difference, bears))
        costly += [verdict(difference)] if bears else []
    what = "utility loss, hardest minus easiest group"
    for method, numbers in found.items():
        parts.append(
            _cost(f"{what}, {method}", numbers["hardest_minus_easiest"], False)
        )
    if ours in (NOT_MEASURED, CONFIRMED):  # above 0: hard samples do cost utility
        decision = NOT_MEASURED if ours == NOT_MEASURED else REFUTED
    else:
        decision = CONFIRMED if set(costly) == {CONFIRMED} else UNDECIDED
    return _claim("c", parts, decision)


def _cost(text: str, stat: Mapping[str, Any], decides: bool = True) -> dict[str, Any]:
    """A part whose being above 0 speaks against the claim."""
    opposite = {CONFIRMED: REFUTED, REFUTED: CONFIRMED}
    made = part(text, stat, decides)
    return made | {"verdict": opposite.get(made["verdict"], made["verdict"])}
