"""Distils the report of a run into a small file of results, or checks one again.

    python -m experiments.publish RUN_DIR experiments/results/NAME.json
    python -m experiments.publish [--ablations | --attacks | --budgets] RUN_DIR FILE
    python -m experiments.publish --tables

The file has the command, the code and the machine, the recipe, metrics and costs of
every model by seed, summary, comparison and tuning trials; no trajectories, no texts of
the data, of an absolute path its last component. ``--check`` compares a run with what
is published, exactly, in the seeds and methods that it has; it ends with 1 if any
differs. ``--attacks`` and ``--budgets`` add to FILE and print its tables.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from experiments.config import from_file
from experiments.publishing import ablations, attacks, budgets, page, run
from experiments.report import published
from experiments.shell import command_line, signals
from experiments.stages.files import write_json

MODULE = "experiments.publish"


@dataclasses.dataclass(frozen=True)
class Options:
    """Publishes the results of a run, or checks a run against published ones."""

    # Folder of the run (its --output-dir).
    run_dir: Annotated[
        pathlib.Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN-DIR]")
    ] = None
    # File of results, such as experiments/results/NAME.json.
    file: Annotated[
        pathlib.Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FILE]")
    ] = None
    # Compare the run with the file instead of writing it.
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # The folder's ablations (experiments.ablations), in place of its run.
    ablations: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # What its attacks found, in place of the run; of other methods FILE may have it.
    attacks: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # Its methods at the budget that it had, beside those of other runs in FILE.
    budgets: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # Write the page of all published files; RUN_DIR and FILE are left out.
    tables: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    of_run = lambda given, run: dataclasses.replace(given, run_dir=run.output_dir)
    words, kinds = from_file.configured(arguments, {"": Options()}, of_run)
    options = command_line.parsed(kinds, MODULE, words)
    try:
        return _work(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _work(options: Options) -> int:
    kinds = {"ablations": ablations, "attacks": attacks, "budgets": budgets}
    asked = [kinds[name] for name in kinds if getattr(options, name)]
    if options.tables:
        if options.run_dir or options.check or asked:
            raise ValueError("--tables is of all published files; give it alone.")
        print(page.write())
        return 0
    if options.run_dir is None or options.file is None:
        raise ValueError("name the folder of a run and a file of results; see --help.")
    if len(asked) > 1:
        raise ValueError(f"--{', --'.join(kinds)}: give one.")
    kind = (*asked, run)[0]
    found = kind.read(options.run_dir)
    if not options.check:
        grows = attacks if options.attacks else budgets if options.budgets else None
        if grows and options.file.exists():
            found = grows.joined(published.load(options.file, kind.SCHEMA), found)
        options.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.file, found)
        print(grows.section(found) if grows else options.file)
        return 0
    ours = kind.outcomes(found)
    theirs = kind.outcomes(published.load(options.file, kind.SCHEMA))
    lines = published.differences(ours, theirs)
    for line in lines:
        print(line)
    print(f"{len(ours)} results of {options.file}: {len(lines)} differences")
    return 1 if lines or not ours else 0


if __name__ == "__main__":
    signals.leave(main)
