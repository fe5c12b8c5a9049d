"""How many stages of each kind a run has, those that are done included."""

from collections import Counter

from experiments.domains.base import BASE, REFERENCE, TARGET, Domain


def stages(domain: Domain) -> Counter[str]:
    """All stages of a run but those of tuning."""
    run, count = domain.run, trainings(domain)
    seeds = 1 if run.share_models else len(run.seeds)
    there = lambda role: domain.given(role) or domain.training(role, run.seeds[0])
    count["unlearn"] = models = len(run.methods) * len(run.seeds)
    models += seeds * sum(there(r) is not None for r in (REFERENCE, TARGET))
    kinds = ["evaluate", *(["export"] if run.export else [])]
    attacks = domain.attacks()
    kinds += attacks.chosen if attacks else ()
    return count + Counter(dict.fromkeys(kinds, models))


def trainings(domain: Domain) -> Counter[str]:
    """How many models a run trains that are not unlearned."""
    seeds = domain.run.seeds[:1] if domain.run.share_models else domain.run.seeds
    every = [(BASE, 0), *((r, s) for r in (REFERENCE, TARGET) for s in seeds)]
    trained = (
        domain.given(role) is None and domain.training(role, seed) is not None
        for role, seed in every
    )
    return Counter(train=sum(trained))
