"""The budget that all methods have alike: gradients of one batch."""


def updates_within(
    budget: float, cost: float, *, name: str, option: str, setup: float = 0.0
) -> int:
    """How many updates a budget of gradients allows a method.

    Args:
      budget: gradients of one batch, of the whole run; ``option`` sets it.
      cost: of one update.
      setup: before the first one.

    Raises:
      ValueError: if it allows none.
    """
    updates = int((budget - setup) // cost)
    if updates < 1:
        before = f" after a setup of {setup:g}" if setup else ""
        raise ValueError(
            f"one update of {name} takes {cost:g} gradient evaluations{before}, more "
            f"than {option} allows ({budget:g}); raise it."
        )
    return updates
