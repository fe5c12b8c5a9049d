"""Did a method forget, and did it keep? One judgement, for reports, records and status.

It is made of numbers alone, the same way for answers of language models (mean
probability) and for images (accuracy), and the worst metric decides:

- *forgot*, with a retrained model: at most `NEAR` above its value, and at least `WAY`
  of the way from the target to it. Without one: the run's own forget target is met and
  the value has fallen. *Not enough* otherwise; *cannot tell* where there is neither, or
  where the model broke, which says nothing about forgetting.
- *nothing to forget*: the target knew no more of the forget rows than a model that
  never saw them.
- *kept*: at least `KEPT` of the target's value on the retain rows is left, both counted
  from chance; else *lost*.

Accuracy of multiple choice is one of these metrics where the target chooses right more
often than by chance by `NEAR`; without a retrained model chance takes its place there.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.domains.base import Model

PARTS = ("forget", "retain", "eval")  # sets of multiple choice
# What stands for forgetting and for keeping where one number has to.
FORGET = (
    "forget_heldout_Q_A_Prob",
    "forget_Q_A_Prob",
    "forget_accuracy",
    "forget_choice_accuracy",
)
RETAIN = (
    "retain_heldout_Q_A_Prob",
    "retain_Q_A_Prob",
    "retain_accuracy",
    "retain_choice_accuracy",
)
# Metrics whose value by chance is a metric itself.
CHANCE = {f"{part}_choice_accuracy": f"{part}_choice_chance" for part in PARTS}
# Of rows that stay although they lie close to what is forgotten.
ADJACENT = ("adjacent_heldout_Q_A_Prob", "adjacent_Q_A_Prob", "adjacent_accuracy")
# As trained, where there is a choice: what a model knows.
KNOWN = tuple(zip(FORGET[1:], RETAIN[1:], strict=True))

FORGOT, NOT_ENOUGH, NOTHING = "forgot", "not enough", "nothing to forget"
HELD, LOST, UNKNOWN = "kept", "lost", "cannot tell"
FORGETTING = (FORGOT, NOTHING, UNKNOWN, NOT_ENOUGH)  # from good to bad
KEEPING = (HELD, UNKNOWN, LOST)
GOOD, FAIR, BAD = "good", "note", "bad"
COLOURS = {FORGOT: GOOD, HELD: GOOD, UNKNOWN: FAIR, NOTHING: FAIR}  # others: BAD

NEAR = 0.1  # above the retrained model's value
WAY = 0.75  # of the way from the target to the retrained model
KEPT = 0.9  # of the target's value on the retain rows
BROKEN = 0.1  # of it: below, a model is of no use
GAP = 0.02  # a smaller difference between two models is none
SURE = 0.5  # a model with such a value knows the answers
LITTLE = 0.25  # of the value on retain rows: hardly known


class Facts(NamedTuple):
    """What is known of a model, and all that a verdict depends on."""

    metrics: Mapping[str, float | None]
    chance: float = 0.0  # value of the metrics by chance
    finite: bool = True  # False: its training broke off
    met: bool | None = None  # the run's forget target; None: there is none
    met_before: bool | None = None  # and before the first update

    def value(self, name: str) -> float | None:
        return self.metrics.get(name)

    def chance_of(self, name: str) -> float:
        found = self.value(CHANCE[name]) if name in CHANCE else None
        return self.chance if found is None else found

    def tells(self, name: str) -> bool:
        """Whether it is there, and of choices more are right than by chance."""
        value = self.value(name)
        least = self.chance_of(name) + NEAR if name in CHANCE else -math.inf
        return value is not None and value > least


class Answer(NamedTuple):
    """The answer to one question: the metric that decides, or why none does."""

    word: str
    metric: str | None = None
    why: str = ""


class Verdict(NamedTuple):
    """Both answers on a model."""

    forgot: Answer
    kept: Answer
    failed: bool  # broke off, broke the model, or did not forget
    destroyed: bool = False  # the model is of no use any more

    @property
    def badge(self) -> str:
        """The worse of both: `GOOD`, `FAIR` or `BAD`."""
        return badge(self.forgot.word, self.kept.word)

    def to_json(self) -> dict[str, Any]:
        return {
            "forgot": self.forgot._asdict(),
            "kept": self.kept._asdict(),
            "failed": self.failed,
            "destroyed": self.destroyed,
        }


def badge(forgot: str, kept: str) -> str:
    """The colour of two answers, that of the worse.

    >>> badge(FORGOT, HELD), badge(NOT_ENOUGH, HELD), badge(FORGOT, UNKNOWN)
    ('good', 'bad', 'note')
    """
    found = {COLOURS.get(word, BAD) for word in (forgot, kept)}
    return next(colour for colour in (BAD, FAIR, GOOD) if colour in found)


def worst(words: Iterable[str], order: Sequence[str]) -> str:
    """The last of the words in an order from good to bad."""
    return max(words, key=order.index)


def facts(model: Model, chance: float) -> Facts:
    """What a model's evaluation and the record of its training say."""
    record, checks = model.record, model.record.get("checks") or []
    goal, update = record.get("forget_target"), record.get("update")

    def met(at: Any) -> bool | None:
        found = [check for check in checks if check["update"] == at]
        return found[-1]["forget_nll"] >= goal if found and goal is not None else None

    return Facts(
        model.evaluation.metrics if model.evaluation else {},
        chance,
        record.get("finite", True),
        met(update),
        met(0),
    )


def verdict(ours: Facts, target: Facts | None, reference: Facts | None) -> Verdict:
    """The verdict on an unlearned model.

    >>> before = Facts({"forget_Q_A_Prob": 0.968, "retain_Q_A_Prob": 0.97})
    >>> after = Facts({"forget_Q_A_Prob": 0.965, "retain_Q_A_Prob": 0.97}, met=False)
    >>> found = verdict(after, before, None)
    >>> found.forgot.word, found.kept.word, found.badge
    ('not enough', 'kept', 'bad')
    """
    keeping, broken = _kept(ours, target), broke(ours, target) is not None
    unknown = None
    if target is not None:
        unknown = nothing(target, reference, ours.met_before)
    if unknown is not None:
        return Verdict(Answer(NOTHING, unknown), keeping, True, broken)
    answer = _forgot(ours, target, reference)
    if answer.word == FORGOT and not ours.finite:
        answer = answer._replace(word=UNKNOWN, why="its training broke off")
    elif answer.word == FORGOT and broken:
        answer = answer._replace(word=UNKNOWN, why="a destroyed model answers nothing")
    failed = answer.word == NOT_ENOUGH or broken or not ours.finite
    return Verdict(answer, keeping, failed, broken)


def _forgot(ours: Facts, target: Facts | None, reference: Facts | None) -> Answer:
    names = [name for name in FORGET if ours.value(name) is not None]
    if target is not None:
        names = [name for name in names if name not in CHANCE or target.tells(name)]
    if not names and ours.met is not None:
        return Answer(FORGOT if ours.met else NOT_ENOUGH, why="by its forget target")
    answers = [_by(name, ours, target, reference) for name in names]
    told = [answer for answer in answers if answer.word != UNKNOWN]
    found = told or answers or [Answer(UNKNOWN, why="forgetting was not measured")]
    return max(found, key=lambda answer: FORGETTING.index(answer.word))


def _by(
    name: str, ours: Facts, target: Facts | None, reference: Facts | None
) -> Answer:
    """The answer of one metric."""
    value, *others = (
        None if of is None else of.value(name) for of in (ours, target, reference)
    )
    before, goal = others
    assert value is not None
    if goal is None and name in CHANCE:
        goal = ours.chance_of(name)
    if goal is None:
        if before is not None and before - value <= GAP:
            return Answer(NOT_ENOUGH, name)
        if ours.met is None:
            why = "there is neither a retrained model nor a forget target"
            return Answer(UNKNOWN, name, why)
        return Answer(FORGOT if ours.met else NOT_ENOUGH, name)
    if before is not None and before - goal <= GAP:
        why = "the retrained model knows as much of them as the target did"
        return Answer(UNKNOWN, name, why)
    room = NEAR if before is None else min(NEAR, (1 - WAY) * (before - goal))
    return Answer(FORGOT if value <= goal + room else NOT_ENOUGH, name)


def _kept(ours: Facts, target: Facts | None) -> Answer:
    found = []
    for name in (*RETAIN, *ADJACENT):
        share = kept_share(name, ours, target)
        if share is not None:
            found.append((share, name))
    if not found:
        return Answer(UNKNOWN, why="there is nothing to compare what is left with")
    share, name = min(found, key=lambda pair: pair[0])
    return Answer(HELD if share >= KEPT else LOST, name)


def kept_share(name: str, ours: Facts, target: Facts | None) -> float | None:
    """How much of the target's value is left, both counted from chance.

    None: not measured, or the target is no better than chance.
    """
    value = ours.value(name)
    before = None if target is None else target.value(name)
    chance = ours.chance_of(name)
    if target is None or not target.tells(name):
        return None
    if value is None or before is None or before <= chance:
        return None
    return (value - chance) / (before - chance)


def broke(ours: Facts, target: Facts | None) -> str | None:
    """The metric of which so little is left that the model is of no use, if any."""
    shares = {name: kept_share(name, ours, target) for name in RETAIN}
    lost = (n for n, share in shares.items() if share is not None and share < BROKEN)
    return next(lost, None)


def nothing(
    target: Facts, reference: Facts | None, met_before: bool | None
) -> str | None:
    """The metric by which the target does not know the forget rows, if it does not.

    Args:
      met_before: whether the target meets the run's forget target as it is.
    """
    found = known(target)
    if found is None:
        return None
    name, value, retain = found
    chance = target.chance_of(name)
    above = value - chance
    if above <= GAP:
        return name
    if reference is not None:
        gaps = [
            before - goal
            for each in FORGET
            if (before := target.value(each)) is not None
            and (goal := reference.value(each)) is not None
        ]
        return name if gaps and max(gaps) <= GAP and value < SURE else None
    hardly = retain is not None and above < LITTLE * (retain - chance)
    return name if (met_before and value < SURE) or hardly else None


def known(target: Facts) -> tuple[str, float, float | None] | None:
    """A metric of what the target knows, and its values on forget and retain rows."""
    for forget, retain in (*KNOWN, (FORGET[0], RETAIN[0])):
        if (value := target.value(forget)) is not None:
            return forget, value, target.value(retain)
    return None
