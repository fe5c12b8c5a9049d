"""A run's report as `experiments.publish` reads it, and what it adds to a file."""

import functools

from experiments import publish
from experiments.report import write


def run_report(method, **parts):
    """A report of a run of this method; ``parts`` is what its kind is about."""
    return {
        "schema_version": 1,
        "title": "A run",
        "created": "2025-01-31T12:00:00+00:00",
        "command": f"python -m experiments.run tofu --data-dir /m/x --methods {method}",
        "recipe": {},
        "environment": {"jax": "0.10.2", "cpu": "A processor", "platform": "not kept"},
        "data": {"name": "TOFU", "counts": {}},
        "models": [],
        "claims": [],
        **parts,
    }


def _add(kind, folder, content, *options):
    """The exit status of adding a run to a file of this kind, and the file."""
    file = folder / f"{kind}.json"
    write.write_report(folder / "run", content)
    words = [f"--{kind}", *options, str(folder / "run"), str(file)]
    return publish.main(words), file


add_attacks = functools.partial(_add, "attacks")
add_budgets = functools.partial(_add, "budgets")
