"""How many stages a run has, by kind; those that are done are counted too."""

from collections import Counter

from experiments.domains.base import BASE, REFERENCE, TARGET
from experiments.pipeline.pipeline import Pipeline


def stages(pipeline: Pipeline) -> Counter[str]:
    """Of a run, without those of its tuning."""
    run, domain, count = pipeline.run, pipeline.domain, trainings(pipeline)
    seeds = 1 if run.share_models else len(run.seeds)
    there = lambda role: domain.given(role) or domain.training(role, run.seeds[0])
    count["unlearn"] = models = len(run.methods) * len(run.seeds)
    models += seeds * sum(there(role) is not None for role in (REFERENCE, TARGET))
    kinds = ["evaluate", *(["export"] if run.export else [])]
    kinds += pipeline.attacks.chosen if pipeline.attacks else ()
    return count + Counter(dict.fromkeys(kinds, models))


def trainings(pipeline: Pipeline) -> Counter[str]:
    """Of models that are not unlearned."""
    run, domain = pipeline.run, pipeline.domain
    seeds = run.seeds[:1] if run.share_models else run.seeds
    every = [(BASE, 0), *((r, s) for r in (REFERENCE, TARGET) for s in seeds)]
    trained = (
        domain.given(role) is None and domain.training(role, seed) is not None
        for role, seed in every
    )
    return Counter(train=sum(trained))
