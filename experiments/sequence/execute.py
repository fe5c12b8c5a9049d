"""Requests one after another, from the command line to the page."""

import dataclasses
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from experiments.config.language import Request
from experiments.config.sequence import Link, files_of, lineage
from experiments.deletion.record import KEY, key_of
from experiments.domains.base import Domain
from experiments.domains.verdict import KEPT as ENOUGH
from experiments.domains.verdict import NOTHING
from experiments.pipeline import hub
from experiments.pipeline.execute import carried_out, configured, recipe
from experiments.pipeline.planned import stages
from experiments.report import words
from experiments.sequence import page, scores
from experiments.shell import command_line, console, provenance
from experiments.shell.heartbeat import Stages
from experiments.stages.files import finite, to_json, write_json
from ofmu_jax.parallel.distributed import is_main, on_main

SCHEMA_VERSION = 1
NAME = "sequence.json"


class Lineage(NamedTuple):
    """What became of the requests of one method and one seed."""

    method: str
    seed: int
    links: list[Link]  # those that left a model
    reports: list[Mapping[str, Any]]  # of all that were tried
    ended: str | None  # why it did not reach the last request


def execute(run: Request) -> dict[str, Any]:
    """Carries out every request for every method and seed; writes and prints the
    page, and returns its content.

    Raises:
      ValueError: options that do not fit, or data that cannot be read.
    """
    check(run)
    run = cast(Request, configured(run))
    run.output_dir.mkdir(parents=True, exist_ok=True)
    key_of(run.output_dir, create=True)
    first = lineage(run, run.methods[0], run.seeds[0])
    scorer = scores.Scorer.of(run, first)
    for note in (*scorer.domain.refuse(), _shrinking(scorer.retain)):
        console.note(note)
    hub.prepare(run)
    del scorer  # and its models, while the requests have theirs
    write_json(run.output_dir / "config.json", recipe(run))
    with console.progress() as progress:
        found = content(run, list(_lineages(run, progress)), progress)
    if is_main():
        write_json(run.output_dir / NAME, found, allow_nan=False)
        page.show(page.write(run.output_dir, found), found)
    links, failed = lineage(run, run.methods[0], run.seeds[0]), status(found) != 0
    hub.push(run, links[-1].export, failed, [link.run for link in links])
    return found


def _shrinking(retain: Sequence[int]) -> str:
    return (
        f"the requests keep {', '.join(map(str, retain))} retain rows in turn: what is "
        "to be forgotten is taken out of them, from its own request on."
    )


def check(run: Request) -> None:
    """Raises ValueError for options that several requests cannot have."""
    if run.tune:
        raise ValueError(
            f"--tune {run.tune} tunes one request, and there are several: tune on one "
            "of them, and give --tuned-from its --output-dir here."
        )
    if run.base_model is not None:
        raise ValueError(
            f"--base-model {run.base_model} trains a reference of one request, and "
            "there are several: give --retain-model, a model that saw none of their "
            "rows, or leave it out."
        )
    if not run.export:
        raise ValueError(
            "--no-export leaves nothing that the next request could start from; leave "
            "it out."
        )


def status(found: Mapping[str, Any]) -> int:
    """The exit status: `NOT_REACHED` where no method carried out all requests."""
    failed: dict[str, bool] = {}
    for row in found["lineages"]:
        failed[row["method"]] = failed.get(row["method"], False) or row["failed"]
    return command_line.NOT_REACHED if all(failed.values()) else 0


def _lineages(run: Request, progress: Stages) -> Iterator[Lineage]:
    for seed in run.seeds:
        for method in run.methods:
            yield _lineage(run, method, seed, progress)


def planned(run: Request, domain: Domain) -> Mapping[str, int]:
    """Stages of all requests by kind: every request has those of the first.

    Args:
      domain: of the first request.
    """
    links = len(files_of(run)) * len(run.methods) * len(run.seeds)
    given = 1 if run.retain_model is None else 2
    every = {kind: count * links for kind, count in stages(domain).items()}
    return {**every, scores.KIND: links + given}


def _lineage(run: Request, method: str, seed: int, progress: Stages) -> Lineage:
    links = lineage(run, method, seed)
    reports: list[Mapping[str, Any]] = []
    for link in links:
        on_main(lambda at=link.run.output_dir: _share_key(run.output_dir, at))
        progress.part = f"request {link.number} of {len(links)}"
        title = f"{method}, seed {seed}: {progress.part}, {link.run.forget_file}"
        first = not progress.planned
        _, found = carried_out(
            *(link.run, progress),
            lambda domain, first=first: planned(run, domain) if first else {},
        )
        reports.append(found)
        for verdict in found["verdicts"]:
            console.note(f"{title}: {words.badge_text(verdict)}")
        if all(model["export"] is None for model in _unlearned(found)):
            why = _unlearned(found)[0]["stopped"]
            left = f"request {link.number} left no model: {why}"
            console.warning(f"{method}, seed {seed}, ends early: {left}")
            return Lineage(method, seed, links[: link.number - 1], reports, left)
    return Lineage(method, seed, links, reports, None)


def _share_key(out: pathlib.Path, folder: pathlib.Path) -> None:
    """One key for all records, so that rows are compared across them."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / KEY).exists():
        partial = folder / f".{KEY}.new"
        partial.touch(0o600)
        shutil.copyfile(out / KEY, partial)
        partial.rename(folder / KEY)


def _unlearned(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [model for model in found["models"] if model["role"] == "unlearned"]


def content(run: Request, lineages: list[Lineage], progress: Stages) -> dict[str, Any]:
    """Everything that was found, as JSON values."""
    files = files_of(run)
    progress.part = ""
    first = lineage(run, run.methods[0], run.seeds[0])
    scorer = scores.Scorer.of(run, first, progress)
    given = scorer.given()
    counts = {name: len(rows) for name, rows in scorer.sets.items()}
    return finite(
        {
            "schema_version": SCHEMA_VERSION,
            "title": f"{len(files)} deletion requests, one after another",
            **provenance.made("experiments.run"),
            "recipe": to_json(dataclasses.asdict(run)),
            "data": {"name": "custom", "counts": counts},
            "requests": [file.name for file in files],
            "retain_rows": list(scorer.retain),
            **given,
            "lineages": [_row(run, scorer, given, found) for found in lineages],
        }
    )


def _failed(verdicts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some request was not carried out; one that an earlier one had made
    forgotten already was, but not all of them."""
    idle = [verdict["forgot"]["word"] == NOTHING for verdict in verdicts]
    pairs = zip(verdicts, idle, strict=True)
    failed = (v["destroyed"] or (v["failed"] and not none) for v, none in pairs)
    return all(idle) or any(failed)


def _row(
    run: Request,
    scorer: scores.Scorer,
    given: Mapping[str, scores.Scores],
    found: Lineage,
) -> dict[str, Any]:
    after = scorer.after(found.links)
    verdicts = [verdict for report in found.reports for verdict in report["verdicts"]]
    stayed = [row[scores.KEPT]["probability"] for row in (given[scores.START], *after)]
    lost = stayed[-1] < ENOUGH * stayed[0]
    links = lineage(run, found.method, found.seed)
    places = [link.run.output_dir.relative_to(run.output_dir) for link in links]
    return {
        "method": found.method,
        "seed": found.seed,
        "failed": found.ended is not None or _failed(verdicts),
        "kept": not lost,
        "ended": found.ended,
        "after": after,
        "requests": [
            {
                "verdict": words.badge_text(verdict),
                "badge": verdict["badge"],
                "report": (place / "report.html").as_posix(),
                "gradient_evaluations": _unlearned(report)[0]["gradient_evaluations"],
                "seconds": _unlearned(report)[0]["seconds"],
                "stopped": _unlearned(report)[0]["stopped"],
            }
            for place, report, verdict in zip(
                places, found.reports, verdicts, strict=False
            )
        ],
    }
