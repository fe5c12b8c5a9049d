"""Runs of any domain that cannot work, refused before anything is trained."""

import pathlib

from experiments.config.common import Run


def check_run(run: Run) -> None:
    """Refuses numbers out of range or not finite, unknown names, and contradictions.

    Raises:
      ValueError: naming the option, its value, and what it must be.
    """
    run.check()
    for name in run.methods:
        for problem in run.specs[name].unfit(run.config_of(name), run.dtype):
            raise ValueError(problem)
    _check_output(run.output_dir)
    _check_tuning(run)


def _check_output(folder: pathlib.Path) -> None:
    """A file in the way of the output folder, or of one above it."""
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
