"""The words of a report's page: what was asked for, forgotten and kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.domains.verdict import FORGOT, GAP, HELD
from experiments.report import glossary
from experiments.report.summary import DASH, mean, number, present

Row = Mapping[str, Any]


def lead(report: Row) -> str:
    """What was asked for, how often it was tried, and what came of it."""
    data, models = report["data"], report["models"]
    counts = data["counts"]
    parts = []
    if found := report.get("nothing_to_forget"):
        parts.append(nothing(found))
    if "forget" in counts and "retain" in counts:
        near = ""
        if counts.get("adjacent_eval"):  # of language; of images they are test images
            near = f", {counts['adjacent']:,} of these adjacent to the former"
        parts.append(
            f"{count(counts['forget'], 'example')} had to be forgotten, "
            f"{counts['retain']:,} had to be kept{near}."
        )
    unlearned = [m for m in models if m["role"] == "unlearned"]
    verdicts = report["verdicts"]
    parts.append(
        f"{count(len(verdicts), 'method')} unlearned in {count(len(unlearned), 'run')}."
    )
    if verdicts and not found:
        parts.append(_reached(verdicts))
    if not any(m["role"] == "retrained" for m in models):
        parts.append(
            "There is no retrained reference, so how much should be left is unknown."
        )
    return " ".join(parts)


def _reached(verdicts: Sequence[Row]) -> str:
    """How many methods forgot, and how many of these kept."""
    forgot = [v for v in verdicts if v["forgot"]["word"] == FORGOT]
    both = sum(v["kept"]["word"] == HELD for v in forgot)
    of = count(len(verdicts), "method")
    if not forgot:
        return f"0 of {of} forgot."
    return f"{len(forgot)} of {of} forgot; {both} of these kept the rest."


def nothing(found: Row) -> str:
    """Why there is nothing to forget, in a sentence."""
    name, others = found["metric"], []
    if (value := found.get("retrained")) is not None:
        others.append(f"for the retrained model, which never saw them, {number(value)}")
    if (value := found.get("retain")) is not None:
        others.append(f"for the retain examples {number(value)}")
    text = f"{quantity(name)} is {number(found['target'])} before unlearning"
    compared = f" ({', '.join(others)})" if others else ""
    met = " and meets the run's forget target" if found.get("forget_target_met") else ""
    return (
        f"Nothing to forget: {text}{compared}{met}, so the target does not know them. "
        "Was it trained on these rows, and is it the right model?"
    )


def badge_text(verdict: Row) -> str:
    """Both answers on a method, such as ``not enough · kept``."""
    return f"{verdict['forgot']['word']} · {verdict['kept']['word']}"


def card(verdict: Row, report: Row) -> dict[str, Any]:
    """What one method forgot and kept, in words.

    Args:
      verdict: of the report, as `experiments.report.outcomes.methods` has it.
      report: complete.
    """
    others = [r for r in report["summary"] if r.get("run") == verdict.get("run")]
    row = next(r for r in others if r["method"] == verdict["method"])
    target, reference = (
        next((r for r in others if r["role"] == role), None)
        for role in ("target", "retrained")
    )
    chips = [(verdict["badge"], badge_text(verdict))]
    if verdict["destroyed"]:
        chips.append(("bad", "model destroyed"))
    sentences = []
    for question, names in (("forgot", glossary.FORGET), ("kept", glossary.RETAIN)):
        answer = verdict[question]
        decides = [answer["metric"]] if answer["metric"] else names
        name, (ours, before, goal) = _values(decides, row, target, reference)
        text = _head(answer, verdict["seeds"])
        if not name or ours is None:
            sentences.append(f"{text}.")
        elif question == "forgot":
            sentences.append(f"{text}: {_forgot(name, ours, before, goal)}")
        else:
            kept = _kept(name, ours, before, goal, verdict["chance"])
            sentences.append(f"{text}: {kept}")
    return {"label": glossary.method_label(row), "sentences": sentences, "chips": chips}


def _head(answer: Row, seeds: int) -> str:
    """The answer, why there is none, and of how many seeds it is that of the worst."""
    text = answer["word"].capitalize()
    if answer["seeds"] < seeds:
        text += f" in {answer['seeds']} of {count(seeds, 'seed')}"
    return f"{text} ({answer['why']})" if answer.get("why") else text


def _values(names: Sequence[str], *rows: Row | None):
    """First metric that the first row has, and its mean in every row."""
    first = rows[0]
    assert first is not None
    name = glossary.first_present(names, present([first]))
    return name, [
        row if row is None else mean(row["metrics"].get(name)) for row in rows
    ]


def _forgot(name: str, ours: float, before: float | None, goal: float | None) -> str:
    if before is None:
        text = f"{quantity(name)} is {number(ours)}"
    else:
        verb = "fell" if ours < before else "did not fall: it went"
        text = f"{quantity(name)} {verb} from {number(before)} to {number(ours)}"
    if goal is None:
        return f"{text}."
    text += f"; the retrained model, which never saw them, has {number(goal)}"
    if before is not None and before - goal > GAP:
        share = (before - ours) / (before - goal)
        if share > 1:
            text += f". That is {number(goal - ours)} below it"
        else:
            text += f". That is {max(share, 0):.0%} of the way"
    return f"{text}."


def _kept(
    name: str, ours: float, before: float | None, goal: float | None, chance: float
) -> str:
    text = f"{quantity(name)} is {number(ours)}"
    if before is not None and before > chance:
        share = (ours - chance) / (before - chance)
        counted = f", counted from chance, {number(chance)}" if chance else ""
        text += f", {share:.0%} of the target's {number(before)}{counted}"
    if goal is not None:
        text += f"; the retrained model has {number(goal)}"
    return f"{text}."


def quantity(name: str) -> str:
    """What a metric of forgetting or keeping measures, in words."""
    parts = (part for part in ("forget", "adjacent") if part in name)
    part = next(parts, "retain")
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


def spent(seconds: float | None, compiling: float | None) -> str:
    """How long a training took, and how much of it went into compiling.

    >>> spent(200.0, 12.0), spent(9.0, None)
    ('3 min 20 s (12 s compiling)', '9.0 s')
    """
    text = duration(seconds)
    if seconds is None or compiling is None:
        return text
    return f"{text} ({duration(compiling)} compiling)"


def count(number_of: int, what: str) -> str:
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"
