"""Which cases of a long list `make test`, `make slow` and `make long` run."""

import pytest

# One method of each kind: a weighted sum, a reference, other answers, the streams of a
# layer, a direction of both gradients, a multiplier, two levels.
KINDS = ("grad_diff", "npo", "idk_dpo", "rmu", "hamu", "saul", "ofmu")


def rest_slow(names, kept=KINDS):
    """The cases, those that are not kept marked slow."""
    return [
        name if name in kept else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


def rest_long(names, kept):
    """Where a case takes half a minute: those of `KINDS` as above, the others long."""
    others = [n for n in names if n not in KINDS]
    return [
        *rest_slow([n for n in names if n in KINDS], kept),
        *(pytest.param(name, marks=pytest.mark.long) for name in others),
    ]
