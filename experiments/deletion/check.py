"""``python -m experiments.verify OUT``: are the deletion records of a run true?

For every exported unlearned model: is its record sealed with the run's key; are the
forget and retain rows the hashed ones; are the files of the model, of the model before
unlearning and of the retrained one those that were hashed; and does the exported
model, scored again, have the recorded metrics and intervals? Exit status 0: all of it
holds; 1: something does not; 2: there is no record, or no key.
"""

import dataclasses
import hmac
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tyro
from rich.markup import escape
from rich.table import Table

from experiments.config.stored import COMMANDS, run_from_json
from experiments.deletion.compare import differences, rows_problem
from experiments.deletion.record import (
    RECORD,
    DeletionError,
    exported_files,
    key_id,
    key_of,
    name_of,
    read_record,
    seal,
    set_hash,
    weight_files,
)
from experiments.deletion.summary import Check, summary
from experiments.domains.base import Evidence
from experiments.shell import console, program


@dataclasses.dataclass(frozen=True)
class Verify:
    """Checks the deletion records of a finished run."""

    output_dir: tyro.conf.Positional[pathlib.Path]
    """The run's --output-dir."""
    base_model: str | None = None
    """The given model before unlearning, where it is no longer where the run had it."""
    data_dir: pathlib.Path | None = None
    """The same for --data-dir of the run."""
    forget_file: pathlib.Path | None = None
    """The same for the forget rows, or the indices of images."""
    retain_file: pathlib.Path | None = None
    """The same for the retain rows of a request."""
    holdout_file: pathlib.Path | None = None
    """The same for the hold-out rows of a request."""
    adjacent_file: pathlib.Path | None = None
    """The same for the adjacent rows of a request."""
    key_file: pathlib.Path | None = None
    """The key of the hashes; default: deletion.key of the run."""
    metrics: bool = True
    """Score the exported models again; without it only hashes are checked."""
    tolerance: float | None = None
    """Absolute and relative; default: 1e-3 (images 1e-2), and 5e-2 where the run
    computed in bfloat16."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks and prints; returns the exit status."""
    options = tyro.cli(Verify, prog=program.name("experiments.verify"), args=arguments)
    try:
        checks = list(verify(options))
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


def verify(options: Verify) -> Iterator[Check]:
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
    out = options.output_dir
    if not out.is_dir():
        raise DeletionError(f"there is no folder {out}; give the run's --output-dir.")
    key = key_of(options.key_file or out)
    records = {path.parent for path in out.glob(f"*/seed*/*/{RECORD}")}
    if not records:
        raise DeletionError(
            f"{out} has no exported model with a {RECORD}; give the "
            "--output-dir of a run that exports (--export)."
        )
    known: dict[str, Evidence] = {}
    config = _config(out)
    for folder in sorted({*records, *_expected(out, config)}):
        yield from _Model(options, key, folder, config, known).checks()


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


class _Model:
    """The checks of one model."""

    def __init__(
        self,
        options: Verify,
        key: bytes,
        folder: pathlib.Path,
        config: Mapping[str, Any],
        known: dict[str, Evidence],
    ):
        self.options, self.key, self.folder = options, key, folder
        self.config = config  # of the run's last command: where things are
        self.known = known  # run, as JSON -> its evidence, read once
        self.name = folder.parent.relative_to(options.output_dir).as_posix()

    def checks(self) -> Iterator[Check]:
        """The checks of the model; whatever its files hold, it gets a line."""
        try:
            record = read_record(self.folder / RECORD)
            yield from self._checks(record)
        except DeletionError as error:
            yield self._check("record", str(error))
        except Exception as error:  # anybody may have written those files
            lines = str(error).splitlines() or [""]
            reason = f"cannot be checked: {type(error).__name__}: {lines[0]}"
            yield self._check("record", reason)

    def _checks(self, record: Mapping[str, Any]) -> Iterator[Check]:
        forget = record["forget"]
        if forget["key_id"] != key_id(self.key):
            yield self._check("key", "the record was made with another key: --key-file")
            return
        found = str(record.get("seal")).encode("utf-8", "replace")
        if not hmac.compare_digest(found, seal(self.key, record).encode()):
            problem = "changed since it was written; nothing that it asks for was done"
            yield self._check("record", problem)
            return
        yield self._check("record", "", "sealed")
        made = f"{record['method']['name']}/seed{record['seed']}"
        problem = "" if made == self.name else f"the record is that of {made}"
        yield self._check("place", problem, "method and seed")
        evidence = self._evidence(record["run"])
        rows = evidence.items("forget")
        problem = rows_problem(forget["row_hashes"], self.key, rows)
        yield self._check("forget rows", problem, f"{len(rows)} rows")
        yield self._set("forget set", forget, rows)
        yield self._set("retain set", record["retain"], evidence.items("retain"))
        files = exported_files(self.folder)
        yield self._files("exported files", record["model"]["files"], files)
        for role in ("base", "reference"):
            if record[role] is not None:
                yield self._source(role, record[role])
        if self.options.metrics:
            yield from self._metrics(record, evidence)

    def _check(self, name: str, problem: str, found: str = "") -> Check:
        known = {run.export_folder for run in COMMANDS.values()}
        more = "" if self.folder.name in known else f"/{self.folder.name}"
        label = f"{self.name}{more}"
        return Check(label, name, not problem, problem or found, self.folder)

    def _evidence(self, values: Mapping[str, Any]) -> Evidence:
        from experiments.domains.of import evidence_of  # late: --help is quick

        key = json.dumps(values, sort_keys=True)
        if key not in self.known:
            names = ("forget_file", "retain_file", "holdout_file", "adjacent_file")
            places = {name: getattr(self.options, name) for name in names}
            run = run_from_json(self._located(values))
            self.known[key] = evidence_of(run, places)
        return self.known[key]

    def _located(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A run's choices, with the paths that its config.json has for the names."""
        found = dict(values)
        for field, path in self.config.items():
            if isinstance(path, str) and name_of(path) == values.get(field):
                found[field] = path
        if self.options.data_dir is not None:
            found["data_dir"] = str(self.options.data_dir)
        return found

    def _set(
        self, name: str, recorded: Mapping[str, Any], rows: Sequence[Any]
    ) -> Check:
        same = recorded["set_hash"] == set_hash(self.key, rows)
        same = same and recorded["rows"] == len(rows)
        problem = "" if same else f"not the {recorded['rows']} recorded rows"
        return self._check(name, problem, f"{len(rows)} rows")

    def _inside(self, source: str) -> pathlib.Path:
        """A folder of the run, by its name in the record."""
        out = self.options.output_dir
        if not (out / source).resolve().is_relative_to(out.resolve()):
            raise DeletionError(f"{source} does not lie in {out}.")
        return out / source

    def _files(
        self, name: str, recorded: Mapping[str, str], found: Mapping[str, str]
    ) -> Check:
        changed = sorted(
            file
            for file in recorded.keys() | found.keys()
            if recorded.get(file) != found.get(file)
        )
        kind = lambda file: (
            "absent"
            if file not in found
            else "added"
            if file not in recorded
            else "changed"
        )
        problem = ", ".join(f"{file} {kind(file)}" for file in changed)
        return self._check(name, problem, f"{len(found)} files, SHA-256")

    def _source(self, role: str, recorded: Mapping[str, Any]) -> Check:
        place = recorded["source"]
        if recorded["in_output_dir"]:
            place = self._inside(place)
        else:
            place = self.options.base_model or self._located({"model": place})["model"]
        try:
            files = weight_files(place)
        except ValueError as error:
            return self._check(f"{role} weights", str(error))
        return self._files(f"{role} weights", recorded["files"], files)

    def _metrics(
        self, record: Mapping[str, Any], evidence: Evidence
    ) -> Iterator[Check]:
        reference = record["reference"]
        if reference is not None:
            reference = self._inside(reference["source"])
        try:
            found = evidence.rescored(self.folder, reference)
            limit = self.options.tolerance
            limit = evidence.tolerance(self.folder) if limit is None else limit
        except (ValueError, FloatingPointError) as error:
            yield self._check("metrics", f"cannot be scored again: {error}")
            return
        recorded = record["evaluation"]
        ends = {k: list(v) for k, v in found.intervals.items()}
        for name, ours in (("metrics", found.metrics), ("intervals", ends)):
            problem = differences(recorded[name], ours, limit)
            yield self._check(name, problem, f"{len(ours)}, within {limit:g}")
