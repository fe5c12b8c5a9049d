"""``python -m experiments.verify OUT``: are the deletion records of a run true?

For every exported unlearned model: is its record sealed with the run's key; are the
forget and retain rows the hashed ones; are the files of the model, of the model before
unlearning and of the retrained one those that were hashed; and does the exported
model, scored again, have the recorded metrics and intervals? Exit status 0: all of it
holds; 1: something does not; 2: there is no record, or no key.
"""

import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from experiments.config import from_file
from experiments.config.sequence import Link
from experiments.config.stored import COMMANDS
from experiments.deletion import chain
from experiments.deletion.one_model import EARLIER, KINDS, ModelChecks
from experiments.deletion.options import Verify as Verify
from experiments.deletion.record import RECORD, DeletionError, key_of, read_record
from experiments.deletion.summary import Check, summary
from experiments.domains.base import Evidence
from experiments.shell import command_line, console, helps
from experiments.shell.heartbeat import Stages


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks and prints; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    kinds = {"": helps.blank(Verify)}
    of_run = lambda given, run: dataclasses.replace(given, output_dir=run.output_dir)
    words, kinds = from_file.configured(arguments, kinds, of_run)
    options = command_line.parsed(kinds, "experiments.verify", words)
    try:
        with console.progress() as progress:
            checks = list(verify(options, progress))
    except (ValueError, FloatingPointError, OSError) as error:
        console.error(error)
        return 2
    table = Table("model", "check", "", "found")
    for check in checks:
        mark = "[green]✓[/]" if check.holds else "[red]✗[/]"
        table.add_row(check.model, check.name, mark, escape(check.detail))
    console.console.print(table)
    for line in summary(checks):
        console.result(line)
    return 0 if all(check.holds for check in checks) else 1


def verify(options: Verify, progress: Stages | None = None) -> Iterator[Check]:
    """Every check of every record of a run.

    Records name files and folders without their paths; those are in the run's
    ``config.json``, which stays behind, or in the options.

    Raises:
      DeletionError: there is no record, or no key.
      ValueError: data or models that cannot be read, or no such tolerance.
    """
    limit = options.tolerance
    if limit is not None and not 0 <= limit < math.inf:
        raise ValueError(f"--tolerance is {limit}; give a number from 0 on.")
    out, progress = options.output_dir, progress or Stages(disable=True)
    if not out.is_dir():
        raise DeletionError(f"there is no folder {out}; give the run's --output-dir.")
    key, config = key_of(options.key_file or out), _config(out)
    if lineages := chain.lineages(config, out, options.forget_file):
        progress.plan(_planned(options, sum(map(len, lineages))))
        for links in lineages:
            for link in links:
                progress.part = f"request {link.number} of {len(links)}"
                yield from _of_sequence(options, link, key, progress)
        return
    folders = _folders(out, config)
    progress.plan(_planned(options, len(folders)))
    known: dict[str, Evidence] = {}
    for folder in folders:
        yield from ModelChecks(options, key, folder, config, known, progress).checks()


def _planned(options: Verify, models: int) -> dict[str, int]:
    return dict.fromkeys(KINDS[: 2 if options.metrics else 1], models)


def _folders(out: pathlib.Path, config: Mapping[str, Any]) -> list[pathlib.Path]:
    """The exports that have a record, or must have.

    Raises:
      DeletionError: there is no record.
    """
    records = {path.parent for path in out.glob(f"*/seed*/*/{RECORD}")}
    if not records:
        raise DeletionError(
            f"{out} has no exported model with a {RECORD}; give the "
            "--output-dir of a run that exports (--export)."
        )
    return sorted({*records, *_expected(out, config)})


def _of_sequence(
    options: Verify, link: Link, key: bytes, progress: Stages
) -> Iterator[Check]:
    """The checks of one of several requests, which is a run of its own."""
    run, first = link.run, link.number == 1
    own = dataclasses.replace(
        options,
        output_dir=run.output_dir,
        base_model=options.base_model if first else run.model,
        forget_file=run.forget_file,
        forgotten_files=run.forgotten_files,
        key_file=options.key_file or options.output_dir,
    )
    name = run.output_dir.relative_to(options.output_dir).as_posix()
    try:
        if not run.output_dir.is_dir():
            raise DeletionError(f"there is no folder {run.output_dir}")
        config, known = _config(run.output_dir), dict[str, Evidence]()
        for folder in _folders(run.output_dir, config):
            models = ModelChecks(own, key, folder, config, known, progress)
            yield from (check._replace(model=name) for check in models.checks())
        alone = "parent" not in read_record(link.export / RECORD)
    except DeletionError as error:
        yield Check(name, "record", False, str(error), link.export)
        return
    if alone and not first:
        yield Check(name, EARLIER, False, "the record names none", link.export)


def _config(out: pathlib.Path) -> dict[str, Any]:
    """The choices of the run's last command; {} where they cannot be read."""
    try:
        found = json.loads((out / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _expected(out: pathlib.Path, config: Mapping[str, Any]) -> Iterator[pathlib.Path]:
    """The exports that the run's last command must have left a record in."""
    try:
        name = COMMANDS[config["command"]].export_folder
        for method in config["methods"] if config["export"] else ():
            if method not in COMMANDS[config["command"]].specs:
                continue  # no name of a folder, but who knows what
            yield from (out / method / f"seed{int(n)}" / name for n in config["seeds"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return  # the records that are there are checked all the same
