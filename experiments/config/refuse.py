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
    _check_push(run)


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


def _check_push(run: Run) -> None:
    """What of ``--push-to-hub`` can be told without asking the hub."""
    repository = run.push_to_hub
    if repository is None:
        if run.push_public:
            raise ValueError("--push-public is of --push-to-hub, which is not given.")
        return
    from huggingface_hub import get_token  # late: most runs do without
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if not run.export:
        raise ValueError(
            f"--push-to-hub {repository} pushes an export, and this run makes none "
            "(--no-export)."
        )
    if len(run.methods) * len(run.seeds) != 1:
        raise ValueError(
            f"--push-to-hub {repository} pushes one model; give one method and one "
            f"seed: --methods {run.methods[0]} --seeds {run.seeds[0]}."
        )
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(f"--push-to-hub {repository}: {error}") from None
    if get_token() is None:
        raise ValueError(
            f"--push-to-hub {repository} needs a token of the Hugging Face hub, and "
            "there is none: `hf auth login`, or set HF_TOKEN."
        )
