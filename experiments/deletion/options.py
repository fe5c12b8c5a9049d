"""The options of ``python -m experiments.verify``."""

import dataclasses
import pathlib
from typing import Annotated, ClassVar

import tyro

# Of `Verify`: where files of rows are.
FILES = ("forget_file", "retain_file", "holdout_file", "adjacent_file")
FILES += ("forgotten_files", "columns")


@dataclasses.dataclass(frozen=True)
class Verify:
    """Checks the deletion records of a finished run."""

    everyday: ClassVar = (
        *("output_dir", "base_model", "data_dir", "forget_file", "retain_file"),
        *("key_file", "metrics", "tolerance"),
    )

    output_dir: tyro.conf.Positional[pathlib.Path]
    """The run's --output-dir."""
    base_model: str | None = None
    """The given model before unlearning, where it is no longer where the run had it."""
    data_dir: pathlib.Path | None = None
    """The same for --data-dir of the run."""
    forget_file: Annotated[
        pathlib.Path | tuple[pathlib.Path, ...] | None,
        tyro.conf.arg(metavar="PATH [PATH ...]"),
    ] = None
    """The same for the forget rows, or the indices of images; of several requests one
    after another their files or folder."""
    retain_file: pathlib.Path | None = None
    """The same for the retain rows of a request."""
    holdout_file: pathlib.Path | None = None
    """The same for the hold-out rows of a request."""
    adjacent_file: pathlib.Path | None = None
    """The same for the adjacent rows of a request."""
    forgotten_files: tuple[pathlib.Path, ...] = ()
    """The same for the files of requests before it."""
    columns: tuple[str, ...] = ()
    """FIELD=COLUMN: the same for --columns."""
    key_file: pathlib.Path | None = None
    """The key of the hashes; default: deletion.key of the run."""
    metrics: bool = True
    """Score the exported models again; without it only hashes are checked."""
    tolerance: float | None = None
    """Absolute and relative; default: 1e-3 (images 1e-2), and 5e-2 where the run
    computed in bfloat16."""
