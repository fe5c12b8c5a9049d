"""The checks of one exported model and its record."""

import hmac
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.config.stored import COMMANDS, run_from_json
from experiments.deletion import chain
from experiments.deletion.compare import differences, rows_problem
from experiments.deletion.options import FILES, Verify
from experiments.deletion.record import (
    RECORD,
    DeletionError,
    exported_files,
    key_id,
    name_of,
    read_record,
    seal,
    set_hash,
    weight_files,
)
from experiments.deletion.summary import Check
from experiments.domains.base import Evidence
from experiments.shell.heartbeat import Stages

EARLIER = "earlier requests"
KINDS = ("hash", "score")  # of stages, for progress


class ModelChecks:
    """The checks of one model."""

    def __init__(
        self,
        options: Verify,
        key: bytes,
        folder: pathlib.Path,
        config: Mapping[str, Any],
        known: dict[str, Evidence],
        progress: Stages,
    ):
        self.options, self.key, self.folder = options, key, folder
        self.config = config  # of the run's last command: where things are
        self.known = known  # run, as JSON -> its evidence, read once
        self.progress = progress
        self.name = folder.parent.relative_to(options.output_dir).as_posix()

    def checks(self) -> Iterator[Check]:
        """The checks of the model; whatever its files hold, it gets a line."""
        self._reach(0, f"hashes of {self.name}")
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
        if "parent" in record:
            yield self._earlier(record, evidence)
        if self.options.metrics:
            self._reach(1, f"score {self.name} again")
            yield from self._metrics(record, evidence)

    def _reach(self, kind: int, doing: str) -> None:
        """Tells what is being done next."""
        self.progress.reach((KINDS[kind], self.folder), KINDS[kind])
        self.progress.add_task(doing, total=None, note="")

    def _check(self, name: str, problem: str, found: str = "") -> Check:
        known = {run.export_folder for run in COMMANDS.values()}
        more = "" if self.folder.name in known else f"/{self.folder.name}"
        label = f"{self.name}{more}"
        return Check(label, name, not problem, problem or found, self.folder)

    def _evidence(self, values: Mapping[str, Any]) -> Evidence:
        from experiments.domains.of import evidence_of  # late: --help is quick

        key = json.dumps(values, sort_keys=True)
        if key not in self.known:
            places = {name: getattr(self.options, name) for name in FILES}
            run = run_from_json(self._located(values))
            self.known[key] = evidence_of(run, places)
        return self.known[key]

    def _located(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A run's choices, with the paths that its config.json has for the names."""
        found = dict(values)
        for field, path in self.config.items():
            known = isinstance(path, str | list)
            if known and name_of(path) == values.get(field):
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
        try:
            files = weight_files(self._place(recorded))
        except ValueError as error:
            return self._check(f"{role} weights", str(error))
        return self._files(f"{role} weights", recorded["files"], files)

    def _place(self, recorded: Mapping[str, Any]) -> str | pathlib.Path:
        """Where a model is that a record names."""
        place = recorded["source"]
        if recorded["in_output_dir"]:
            return self._inside(place)
        return self.options.base_model or self._located({"model": place})["model"]

    def _earlier(self, record: Mapping[str, Any], evidence: Evidence) -> Check:
        """The records before this one, and that no row of theirs is kept again."""
        try:
            base = self.options.base_model or chain.before(self.folder)
            found = list(chain.ancestors(base or self._place(record["base"]), record))
        except ValueError as error:
            return self._check(EARLIER, str(error))
        again = chain.kept_again(self.key, found, evidence.items("retain"))
        problem = f"retain rows that were to be forgotten: {again[:5]}" if again else ""
        return self._check(EARLIER, problem, f"{len(found)}, each named by SHA-256")

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
