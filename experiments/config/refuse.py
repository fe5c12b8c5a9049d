"""Runs of any domain that cannot work: numbers, names and options are looked at first."""

import difflib
import pathlib

from experiments.config.common import Run
from ofmu_jax import bounds


def check_run(run: Run) -> None:
    """Refuses numbers out of range or not finite, unknown names, and contradictions.

    Of the methods only those that the run uses are looked at.

    Raises:
      ValueError: naming the option, its value, and what it must be.
    """
    for name in ("seeds", "methods"):
        values = getattr(run, name)
        if not values:
            raise ValueError(f"--{name} is empty; give at least one.")
        if len(set(values)) < len(values):
            raise ValueError(f"--{name} names one twice: {' '.join(map(str, values))}.")
    for name in (*run.methods, *run.tuned_except):
        check_name(run, name)
    for seed in run.seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(
                f"--seeds has {seed}; give numbers from 0 to 2**32 - 1, such as 0 1 2."
            )
    check_numbers(run)
    check_output(run.output_dir)
    _check_tuning(run)
    for name in run.methods:
        for problem in run.specs[name].unfit(run.method(name), run.dtype):
            raise ValueError(problem)


def check_name(run: Run, name: str) -> None:
    """Raises ValueError for a method that the run's domain does not have."""
    if name not in run.specs:
        near = difflib.get_close_matches(name, run.specs, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(
            f"--methods has {name!r}; known methods: {', '.join(run.specs)}{hint}"
        )


def check_numbers(run: Run) -> None:
    """Raises ValueError for a number out of its bounds, NaN or infinite."""
    used = {name: run.method(name) for name in run.methods}
    configs = [("", run.without_methods()), *((f"{k}.", v) for k, v in used.items())]
    for prefix, config in configs:
        for path, value, problem in bounds.problems(config):
            flag = f"--{prefix}{path}".replace("_", "-")
            raise ValueError(f"{flag} is {value}; it must be {problem}.")


def check_output(folder: pathlib.Path) -> None:
    """Raises ValueError for a file in the way of the output folder."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(
                f"--output-dir {folder}: {path} is a file; choose another folder."
            )


def _check_tuning(run: Run) -> None:
    if run.tuned_from is not None and (run.tune or run.paper):
        other = "--tune" if run.tune else "--paper"
        raise ValueError(
            f"--tuned-from takes configurations from an earlier run and {other} makes "
            "others; leave one of them out."
        )
    stray = [name for name in run.tuned_except if name not in run.methods]
    if stray or (run.tuned_except and run.tuned_from is None):
        raise ValueError(
            f"--tuned-except {' '.join(run.tuned_except)} leaves methods of the run "
            "as they are in spite of --tuned-from: name some of --methods and give "
            "--tuned-from, or leave it out."
        )
