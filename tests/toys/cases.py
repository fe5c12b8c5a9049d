"""Which cases of a long list `make test`, `make slow` and `make long` run."""

import pytest

# One method of each kind: a weighted sum, a reference, other answers, the streams of a
# layer, a direction of both gradients, a multiplier, two levels.
KINDS = ("grad_diff", "npo", "idk_dpo", "rmu", "hamu", "saul", "ofmu")


def rest_slow(names, kept=KINDS):
    """The cases, those that are not kept marked slow."""
    return _marked([*names], kept, pytest.mark.slow)


def rest_long(names, kept):
    """The same where a case takes half a minute: one of each other kind is slow, the
    others are long."""
    names = [*names]
    slow = [name for name in names if name in KINDS and name not in kept]
    rest = [name for name in names if name not in slow]
    return _marked(slow, (), pytest.mark.slow) + _marked(rest, kept, pytest.mark.long)


def _marked(names, kept, mark):
    return [n if n in kept else pytest.param(n, marks=mark) for n in names]
