"""What several attacks need: made by the first that asks, kept for the others."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
Made = dict[Hashable, Any]  # results, by what they are of


def once(made: Made | None, key: Hashable, make: Callable[[], T]) -> T:
    """What was made under this key, else what ``make`` gives; what raises is not kept.

    Args:
      made: where it is kept; None: nowhere, and it is made each time.

    >>> made, calls = {}, []
    >>> [once(made, "a", lambda: calls.append(1) or 7) for _ in range(2)], calls
    ([7, 7], [1])
    """
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    return made[key]
