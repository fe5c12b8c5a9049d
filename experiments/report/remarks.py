"""Models of a run that are no result: broken off, broken, or left as they were."""

from collections.abc import Iterator, Sequence

from experiments.domains.base import TARGET, Kept, Model

BROKEN = 0.1  # share of what the target kept below which a model is useless


def remarks(kept: Kept, models: Sequence[Model]) -> Iterator[str]:
    """What a reader has to know before the numbers.

    Args:
      kept: what tells that a model broke: less than `BROKEN` of the target's value is
        left, both counted from chance.
    """
    target: Model | None = None
    for model in models:
        if model.name == TARGET:
            target = model
        elif model.role == "unlearned" and target is not None:
            yield from _outcome(kept, model, target)


def _outcome(kept: Kept, model: Model, target: Model) -> Iterator[str]:
    assert model.evaluation is not None and target.evaluation is not None
    ours, theirs = model.evaluation.metrics, target.evaluation.metrics
    if not model.record.get("finite", True):
        yield f"{model.title} broke off and is no result: {model.record['stopped']}."
    elif ours == theirs:
        yield (
            f"{model.title} left the model as it was: not one metric differs from "
            "the target's."
        )
    elif kept.metric in ours and kept.metric in theirs:
        left, before = ours[kept.metric], theirs[kept.metric]
        if left - kept.floor < BROKEN * (before - kept.floor):
            chance = f" ({kept.floor:.3f} by chance)" if kept.floor else ""
            yield (
                f"{model.title} broke the model: {left:.3f} is left of a {kept.words} "
                f"of {before:.3f}{chance}; its other numbers say nothing about "
                "forgetting."
            )
