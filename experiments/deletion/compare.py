"""What is recorded against what is found, in words; "" where both are the same."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.deletion.record import row_hashes


def differences(
    recorded: Mapping[str, Any], found: Mapping[str, Any], limit: float
) -> str:
    """Names the values that differ; "" if none does.

    >>> differences({"a": 1.0, "b": [0.0, 2.0]}, {"a": 1.001, "b": [0.0, 3.0]}, 0.01)
    'b is [0, 3], recorded [0, 2]'
    """
    names = sorted(recorded.keys() | found.keys())
    wrong = [
        f"{name} is {_shown(found.get(name))}, recorded {_shown(recorded.get(name))}"
        for name in names
        if not _near(recorded.get(name), found.get(name), limit)
    ]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(wrong[:3]) + more


def _near(recorded: Any, found: Any, limit: float) -> bool:
    if recorded is None or found is None:
        return False
    if isinstance(found, list):
        pairs = zip(recorded, found, strict=False)
        return len(recorded) == len(found) and all(_near(a, b, limit) for a, b in pairs)
    return math.isclose(recorded, found, rel_tol=limit, abs_tol=limit)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:.4g}"


def rows_problem(recorded: Sequence[str], key: bytes, rows: Sequence[Any]) -> str:
    """What is wrong with the rows, one by one; "" if nothing is."""
    found = row_hashes(key, rows)
    if len(found) != len(recorded):
        return f"{len(found)} rows, recorded are {len(recorded)}"
    pairs = enumerate(zip(recorded, found, strict=True), 1)
    other = [str(number) for number, (was, now) in pairs if was != now]
    if not other:
        return ""
    if sorted(found) == sorted(recorded):
        return f"the recorded rows in another order, from row {other[0]} on"
    more = ", …" if len(other) > 5 else ""
    return f"another row than recorded: {', '.join(other[:5])}{more}"
