"""``python -m experiments.verify OUT``: are the deletion records of a run true?

For every exported unlearned model: is its record sealed with the run's key; are the
forget and retain rows the hashed ones; are the files of the model, of the model before
unlearning and of the retrained one those that were hashed; and does the exported
model, scored again, have the recorded metrics and intervals? Exit status 0: all of it
holds; 1: something does not; 2: it could not be checked.
"""

import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import tyro
from rich.markup import escape
from rich.table import Table

from experiments.config.stored import COMMANDS, run_from_json
from experiments.deletion.record import (
    RECORD,
    DeletionError,
    exported_files,
    key_id,
    key_of,
    read_record,
    row_hashes,
    seal,
    set_hash,
    weight_files,
)
from experiments.domains.base import Evidence
from experiments.shell import console


@dataclasses.dataclass(frozen=True)
class Verify:
    """Checks the deletion records of a finished run."""

    output_dir: tyro.conf.Positional[pathlib.Path]
    """The run's --output-dir."""
    forget_file: pathlib.Path | None = None
    """The forget rows, or the indices of images, where they are now."""
    retain_file: pathlib.Path | None = None
    """The same for the retain rows of a request."""
    holdout_file: pathlib.Path | None = None
    """The same for the hold-out rows of a request."""
    key_file: pathlib.Path | None = None
    """The key of the hashes; default: deletion.key of the run."""
    metrics: bool = True
    """Score the exported models again; without it only hashes are checked."""
    tolerance: float | None = None
    """Absolute and relative; default: 1e-3 for float32 exports (images 1e-2), 5e-2 for
    others."""


class Check(NamedTuple):
    """One line of the table."""

    model: str
    name: str
    holds: bool
    detail: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks and prints; returns the exit status."""
    options = tyro.cli(Annotated[Verify, tyro.conf.arg(name="")], args=arguments)
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
    return 0 if all(check.holds for check in checks) else 1


def verify(options: Verify) -> Iterator[Check]:
    """Every check of every record of a run.

    Raises:
      DeletionError: there is no record, or no key.
      ValueError: data or models that cannot be read, or no such tolerance.
    """
    limit = options.tolerance
    if limit is not None and not 0 <= limit < math.inf:
        raise ValueError(f"--tolerance is {limit}; give a number from 0 on.")
    out = options.output_dir
    key = key_of(options.key_file or out)
    records = {path.parent for path in out.glob(f"*/seed*/*/{RECORD}")}
    if not records:
        raise DeletionError(
            f"{out} has no exported model with a {RECORD}; give the "
            "--output-dir of a run that exports (--export)."
        )
    known: dict[str, Evidence] = {}
    for folder in sorted({*records, *_expected(out)}):
        yield from _Model(options, key, folder, known).checks()


def _expected(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """The exports that the run's last command must have left a record in."""
    try:
        config = json.loads((out / "config.json").read_bytes())
        name = COMMANDS[config["command"]].export_folder
        for method in config["methods"] if config["export"] else ():
            yield from (out / method / f"seed{n}" / name for n in config["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # the records that are there are checked all the same


class _Model:
    """The checks of one model."""

    def __init__(
        self,
        options: Verify,
        key: bytes,
        folder: pathlib.Path,
        known: dict[str, Evidence],
    ):
        self.options, self.key, self.folder = options, key, folder
        self.known = known  # run, as JSON -> its evidence, read once
        self.name = folder.parent.relative_to(options.output_dir).as_posix()

    def checks(self) -> Iterator[Check]:
        try:
            record = read_record(self.folder / RECORD)
            yield from self._checks(record)
        except DeletionError as error:
            yield self._check("record", str(error))
        except (KeyError, TypeError, AttributeError) as error:
            yield self._check("record", f"damaged: {type(error).__name__} {error}")

    def _checks(self, record: Mapping[str, Any]) -> Iterator[Check]:
        forget = record["forget"]
        if forget["key_id"] != key_id(self.key):
            yield self._check("key", "the record was made with another key: --key-file")
            return
        sealed = record.get("seal") == seal(self.key, record)
        yield self._check(
            "record", "" if sealed else "changed since it was written", "sealed"
        )
        made = f"{record['method']['name']}/seed{record['seed']}"
        problem = "" if made == self.name else f"the record is that of {made}"
        yield self._check("place", problem, "method and seed")
        evidence = self._evidence(record["run"])
        rows = evidence.items("forget")
        problem = _rows_problem(forget["row_hashes"], self.key, rows)
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
        return Check(self.name, name, not problem, problem or found)

    def _evidence(self, values: Mapping[str, Any]) -> Evidence:
        from experiments.domains.of import evidence_of  # late: --help is quick

        key = json.dumps(values, sort_keys=True)
        if key not in self.known:
            names = ("forget_file", "retain_file", "holdout_file")
            places = {name: getattr(self.options, name) for name in names}
            self.known[key] = evidence_of(run_from_json(values), places)
        return self.known[key]

    def _set(
        self, name: str, recorded: Mapping[str, Any], rows: Sequence[Any]
    ) -> Check:
        same = recorded["set_hash"] == set_hash(self.key, rows)
        same = same and recorded["rows"] == len(rows)
        problem = "" if same else f"not the {recorded['rows']} recorded rows"
        return self._check(name, problem, f"{len(rows)} rows")

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
            place = self.options.output_dir / place
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
            reference = self.options.output_dir / reference["source"]
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


def differences(
    recorded: Mapping[str, Any], found: Mapping[str, Any], limit: float
) -> str:
    """Names the values that differ; "" if none does.

    >>> differences({"a": 1.0, "b": [0.0, 2.0]}, {"a": 1.001, "b": [0.0, 3.0]}, 0.01)
    'b is [0, 3], recorded [0, 2]'
    """
    names = sorted(recorded.keys() | found.keys())
    wrong = [
        f"{name} is {_shown(found.get(name))}, recorded {_shown(recorded.get(name))}"
        for name in names
        if not _near(recorded.get(name), found.get(name), limit)
    ]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(wrong[:3]) + more


def _near(recorded: Any, found: Any, limit: float) -> bool:
    if recorded is None or found is None:
        return False
    if isinstance(found, list):
        pairs = zip(recorded, found, strict=False)
        return len(recorded) == len(found) and all(_near(a, b, limit) for a, b in pairs)
    return math.isclose(recorded, found, rel_tol=limit, abs_tol=limit)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:.4g}"


def _rows_problem(recorded: Sequence[str], key: bytes, rows: Sequence[Any]) -> str:
    """What is wrong with the rows, one by one; "" if nothing is."""
    found = row_hashes(key, rows)
    if len(found) != len(recorded):
        return f"{len(found)} rows, recorded are {len(recorded)}"
    pairs = enumerate(zip(recorded, found, strict=True), 1)
    other = [str(number) for number, (was, now) in pairs if was != now]
    if not other:
        return ""
    if sorted(found) == sorted(recorded):
        return f"the recorded rows in another order, from row {other[0]} on"
    more = ", …" if len(other) > 5 else ""
    return f"another row than recorded: {', '.join(other[:5])}{more}"


if __name__ == "__main__":
    sys.exit(main())
