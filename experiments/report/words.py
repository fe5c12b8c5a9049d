"""The words of a report's page: what was asked for, forgotten and kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import glossary
from experiments.report.summary import DASH, mean, number, present

BROKEN = 0.1  # of the target's retain value: below it a model is of no use
FOUND_GAP = 0.02  # a smaller one between target and reference has no share to close

Row = Mapping[str, Any]


def lead(report: Row) -> str:
    """What was asked for, how often it was tried, and what came of the claims."""
    data, models = report["data"], report["models"]
    counts = data["counts"]
    parts = []
    if "forget" in counts and "retain" in counts:
        parts.append(
            f"{count(counts['forget'], 'example')} of {data['name']} had to be "
            f"forgotten, {counts['retain']:,} had to be kept."
        )
    unlearned = [m for m in models if m["role"] == "unlearned"]
    methods = len({(m.get("run"), m["method"]) for m in unlearned})
    parts.append(
        f"{count(methods, 'method')} unlearned in {count(len(unlearned), 'run')}."
    )
    claims = report["claims"]
    if claims:
        held = sum(claim["holds"] for claim in claims)
        verb = "holds" if held == 1 else "hold"
        parts.append(f"{held} of {count(len(claims), 'claim')} {verb}.")
    if not any(m["role"] == "retrained" for m in models):
        parts.append(
            "There is no retrained reference, so how much should be left is unknown."
        )
    return " ".join(parts)


def card(row: Row, report: Row) -> dict[str, Any]:
    """What one method forgot and kept, in words."""
    others = [r for r in report["summary"] if r.get("run") == row.get("run")]
    target, reference = (
        next((r for r in others if r["role"] == role), None)
        for role in ("target", "retrained")
    )
    sentences, chips = [], []
    name, (ours, before, goal) = _values(glossary.FORGET, row, target, reference)
    if name and ours is not None:
        sentences.append(_forgot(name, ours, before, goal))
    name, (ours, before, goal) = _values(glossary.RETAIN, row, target, reference)
    if name and ours is not None:
        sentences.append(_kept(name, ours, before, goal))
        if before and ours / before < BROKEN:
            chips.append(("bad", "model destroyed"))
    claims = [
        claim
        for claim in report["claims"]
        if claim.get("method") == row["method"] and claim.get("run") == row.get("run")
    ]
    if claims:
        held = sum(claim["holds"] for claim in claims)
        kind = "good" if held == len(claims) else "bad"
        chips.append((kind, f"{held} of {count(len(claims), 'claim')}"))
    if not sentences:
        sentences.append("Neither forgetting nor keeping was measured.")
    return {"label": glossary.method_label(row), "sentences": sentences, "chips": chips}


def _values(names: Sequence[str], *rows: Row | None):
    """First metric that the first row has, and its mean in every row."""
    first = rows[0]
    assert first is not None
    name = glossary.first_present(names, present([first]))
    return name, [
        row if row is None else mean(row["metrics"].get(name)) for row in rows
    ]


def _forgot(name: str, ours: float, before: float | None, goal: float | None) -> str:
    what = f"Forgotten: {_quantity(name)} "
    if before is None:
        text = f"is {number(ours)}"
    else:
        verb = "fell" if ours < before else "did not fall: it went"
        text = f"{verb} from {number(before)} to {number(ours)}"
    if goal is None:
        return f"{what}{text}."
    text += f"; the retrained model, which never saw them, has {number(goal)}"
    if before is not None and before - goal > FOUND_GAP:
        share = (before - ours) / (before - goal)
        if share > 1:
            text += f". That is {number(goal - ours)} below it"
        else:
            text += f". That is {max(share, 0):.0%} of the way"
    return f"{what}{text}."


def _kept(name: str, ours: float, before: float | None, goal: float | None) -> str:
    text = f"Kept: {_quantity(name)} is {number(ours)}"
    if before:
        text += f", {ours / before:.0%} of the target's {number(before)}"
    if goal is not None:
        text += f"; the retrained model has {number(goal)}"
    return f"{text}."


def _quantity(name: str) -> str:
    part = "forget" if "forget" in name else "retain"
    if "accuracy" in name:
        return f"the accuracy on the {part} examples"
    words = ", in words never trained on," if "heldout" in name else ""
    return f"the probability of the right answers to the {part} questions{words}"


def duration(seconds: float | None) -> str:
    """Seconds for people, such as ``3 min 20 s``."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(number_of: int, what: str) -> str:
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"
