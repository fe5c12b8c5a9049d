"""Models of a run that are no result: broken off, broken, or left as they were.

And yardsticks that measure nothing: a target that does not know what it is to forget, a
retrained model that knows it still, or that knows little else.
"""

from collections.abc import Iterator, Sequence

from experiments.domains.base import REFERENCE, TARGET, Model
from experiments.domains.verdict import (
    LITTLE,
    NEAR,
    RETAIN,
    SURE,
    Facts,
    broke,
    facts,
    kept_share,
    known,
    nothing,
)

LEAST = 0.75  # of the target's retain value, that a retrained model should have


def remarks(chance: float, models: Sequence[Model]) -> Iterator[str]:
    """What a reader has to know before the numbers.

    Args:
      chance: value by chance of what tells forgetting and keeping.
    """
    target: Model | None = None
    reference: Model | None = None
    for model in models:
        if model.name == REFERENCE:
            reference = model
        elif model.name == TARGET:
            target = model
            against = None if reference is None else facts(reference, chance)
            for doubt in doubts(facts(model, chance), against):
                yield f"seed {model.seed}: {doubt}"
        elif model.role == "unlearned" and target is not None:
            yield from _outcome(chance, model, target)


def doubts(target: Facts, reference: Facts | None) -> Iterator[str]:
    """What makes the target, or the retrained model, a poor yardstick."""
    found = known(target)
    # With nothing to forget the report says so, in its first line.
    if found is not None and not nothing(target, reference, None):
        yield from _knowledge(*found, target.chance_of(found[0]), reference)
    if reference is None:
        return
    for name in RETAIN:
        share = kept_share(name, reference._replace(chance=target.chance), target)
        if share is not None and share < LEAST:
            yield (
                f"the retrained model has {reference.value(name):.3f} on the retain "
                f"rows, the target {target.value(name):.3f} ({name}): a poor "
                "yardstick. Was it trained as the target was, and for its tokenizer?"
            )
            return


def _knowledge(
    name: str, value: float, retain: float | None, chance: float, against: Facts | None
) -> Iterator[str]:
    """Doubts about what target and retrained model know of the forget rows."""
    if retain is not None and value - chance < SURE * (retain - chance):
        yield (
            f"the target has {value:.3f} on the forget rows and {retain:.3f} on the "
            f"retain rows ({name}): it hardly knows what it is to forget."
        )
    elif against is None and value - chance < LITTLE * (1 - chance):
        yield (
            f"the target has {value:.3f} on the forget rows ({name}): it may not know "
            "what it is to forget."
        )
    goal = None if against is None else against.value(name)
    if goal is not None and value - goal < NEAR * (value - chance):
        yield (
            f"the retrained model has {goal:.3f} on the forget rows, the target "
            f"{value:.3f} ({name}): it was trained on them as well, or what they say "
            "follows from others, so it does not show what forgetting them leaves."
        )


def _outcome(chance: float, model: Model, target: Model) -> Iterator[str]:
    ours, theirs = facts(model, chance), facts(target, chance)
    if not ours.finite:
        yield f"{model.title} broke off and is no result: {model.record['stopped']}."
    elif ours.metrics == theirs.metrics:
        yield (
            f"{model.title} left the model as it was: not one metric differs from "
            "the target's."
        )
    elif (name := broke(ours, theirs)) is not None:
        by_chance = f" ({chance:.3f} by chance)" if chance else ""
        what = "accuracy" if "accuracy" in name else "probability"
        yield (
            f"{model.title} broke the model: {ours.value(name):.3f} is left of a "
            f"retain {what} of {theirs.value(name):.3f}{by_chance}; its other numbers "
            "say nothing about forgetting."
        )
