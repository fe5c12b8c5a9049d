"""When a run has forgotten enough, decided from its recorded checks alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class StoppingRule:
    """When a run has forgotten enough, and which of its parameters to return.

    A run is judged at its checks. One *meets the target* if the mean NLL of the
    forget rows is at least ``forget_target``. Of those the run returns the one with
    the least retain NLL + (forget NLL − target): forgetting far beyond the target is
    a defect of its own, as visible from outside as remembering. It stops once
    ``patience`` further checks have not lowered that sum. If no check meets the
    target, the run uses up its budget and returns its last parameters. The same rule
    serves every method.

    Raises:
      ValueError: for a target that is not finite, or patience below 1.
    """

    forget_target: float | None = None  # nats per token; None: run the whole budget
    patience: int = 5  # checks

    def __post_init__(self):
        if self.forget_target is not None and not math.isfinite(self.forget_target):
            raise ValueError(
                f"forget_target={self.forget_target} is not finite; give nats per "
                "token, or None to run the whole budget."
            )
        if self.patience < 1:
            raise ValueError(f"patience={self.patience} must be at least 1 check.")


class Verdict(NamedTuple):
    """What a `StoppingRule` says of the checks so far."""

    best_update: int | None  # None: no check has met the target
    enough: bool  # the run may stop


def judge(rule: StoppingRule, checks: Sequence[Mapping[str, float]]) -> Verdict:
    """Applies the rule to recorded checks, in order; the start (update 0) is none.

    The decision of a run depends on its recorded checks alone, so that it can be
    repeated from them.

    >>> rule = StoppingRule(forget_target=2.0, patience=1)
    >>> start = {"update": 0, "forget_nll": 0.1, "retain_nll": 0.1}
    >>> met = {"update": 10, "forget_nll": 2.1, "retain_nll": 0.3}
    >>> beyond = {"update": 20, "forget_nll": 9.0, "retain_nll": 0.3}
    >>> judge(rule, [start, met, beyond])
    Verdict(best_update=10, enough=True)
    """
    best, best_score, waited = None, math.inf, 0
    for values in checks:
        target, update = rule.forget_target, int(values["update"])
        if target is None or update == 0 or values["forget_nll"] < target:
            continue
        score = values["retain_nll"] + values["forget_nll"] - target
        if score < best_score:
            best, best_score, waited = update, score, 0
        else:
            waited += 1
    return Verdict(best, waited >= rule.patience)
