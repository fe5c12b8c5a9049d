"""How a command is called here, for messages that say what to type."""

import pathlib
import sys

SCRIPT = "ofmu-jax"


def words(module: str) -> list[str]:
    """``python -m MODULE``, or ``ofmu-jax NAME`` where that script runs.

    >>> words("experiments.run")
    ['python', '-m', 'experiments.run']
    """
    if pathlib.Path(sys.argv[0]).stem == SCRIPT:
        return [SCRIPT, module.split(".")[-1]]
    return ["python", "-m", module]


def name(module: str) -> str:
    """The same as one text, for a line of usage."""
    return " ".join(words(module))
