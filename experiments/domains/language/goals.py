"""What language runs aim at: claims of the report, and how near a trial is."""

from collections.abc import Mapping

from experiments.domains.base import REFERENCE, TARGET, Goal
from experiments.domains.verdict import KEPT, NEAR

PROBABILITY = ("{}_heldout_Q_A_Prob", "{}_Q_A_Prob")  # in the held-out wording, if any


def _keeps(part: str, what: str) -> Goal:
    return Goal(
        f"{{name}} keeps at least {KEPT:.0%} of the target model's {what}",
        [name.format(part) for name in PROBABILITY],
        TARGET,
        lambda ours, theirs: bool(theirs) and ours / theirs >= KEPT,
        "{metric}: {ours:.3f} of {theirs:.3f}, {share:.1%}",
    )


GOALS = (
    _keeps("retain", "retain probability"),
    _keeps("adjacent", "probability on adjacent rows"),
    Goal(
        f"{{name}}'s forget probability is within {NEAR} of the retrained reference's",
        [name.format("forget") for name in PROBABILITY],
        REFERENCE,
        lambda ours, theirs: abs(ours - theirs) <= NEAR,
        "{metric}: {ours:.3f}, reference {theirs:.3f}",
    ),
    Goal(
        f"{{name}} chooses right at most {NEAR} more often than the retrained "
        "reference where it was to forget",
        ["forget_choice_accuracy"],
        REFERENCE,
        lambda ours, theirs: ours - theirs <= NEAR,
        "{metric}: {ours:.3f}, reference {theirs:.3f}",
    ),
)


def distance(check: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """A trial's distance from the retrained model; see `LanguageDomain.scored`.

    >>> before = {"forget_prob": 0.9, "retain_prob": 0.9}
    >>> round(distance(before, {"forget_prob": 0.2, "retain_prob": 1.0}), 6)
    0.8
    """
    forgot = abs(check["forget_prob"] - reference["forget_prob"])
    kept = (name for name in ("retain_prob", "adjacent_prob") if name in reference)
    return forgot + max(0.0, *(reference[name] - check[name] for name in kept))
